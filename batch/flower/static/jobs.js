/* Keeps a page of jobs up to date, and hands clicks in. */
(function () {
  "use strict";

  const EVERY_MS = 2000;
  const page = document.querySelector("[data-live]");
  if (!page) { return; }
  const here = new URL(location.href);
  // A page that was opened with the password in its address must not ask with it there.
  here.username = here.password = "";
  const words = document.querySelector("[data-words]").dataset;
  const told = {};
  let asking = null, again = false, mark = "", freshAt = new Date();

  /* ---- keeping up to date: what is different is changed, and what is focused or pressed stays */

  function keyOf(node) {
    const data = node.dataset || {};
    return data.key || data.click || data.form || "";
  }

  function alike(old, fresh) {
    return old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh);
  }

  function morph(old, fresh) {
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) { old.data = fresh.data; }
    } else if (old.nodeType === Node.ELEMENT_NODE) {
      morphAttributes(old, fresh);
      morphInside(old, fresh);
    }
  }

  function morphAttributes(old, fresh) {
    for (const { name } of Array.from(old.attributes)) {
      if (!fresh.hasAttribute(name) && name !== "aria-disabled") { old.removeAttribute(name); }
    }
    for (const { name, value } of Array.from(fresh.attributes)) {
      if (old.getAttribute(name) !== value) { old.setAttribute(name, value); }
    }
  }

  function morphInside(old, fresh) {
    const wanted = Array.from(fresh.childNodes);
    wanted.forEach(function (node, place) {
      const later = Array.from(old.childNodes).slice(place);
      const same = keyOf(node) ? later.find((each) => alike(each, node)) : null;
      const there = later[0];
      if (same && same !== there) { old.insertBefore(same, there); }
      const found = same || (there && alike(there, node) ? there : null);
      if (found) {
        morph(found, node);
      } else {
        old.insertBefore(node, there || null);
      }
    });
    while (old.childNodes.length > wanted.length) { old.lastChild.remove(); }
  }

  /* Where the focus goes when what had it is gone: to what is beside it. */
  function keepFocus(change) {
    const had = document.activeElement;
    const beside = had && had.closest("[data-key], .ns-head, [data-part]");
    change();
    // What is moved loses it, too.
    if (had && had.isConnected && had !== document.activeElement) { had.focus({ preventScroll: true }); }
    if (!had || had.isConnected || !beside) { return; }
    const next = beside.isConnected && beside.querySelector("[data-click], [data-form], a, button");
    if (next) { next.focus({ preventScroll: true }); }
  }

  function show(parts) {
    keepFocus(() => showParts(parts));
    choose();
  }

  function showParts(parts) {
    for (const [name, html] of Object.entries(parts)) {
      const part = page.querySelector('[data-part="' + name + '"]');
      if (!part || told[name] === html) { continue; }
      told[name] = html;
      const fresh = document.createElement("template");
      fresh.innerHTML = html;
      morphInside(part, fresh.content);
    }
  }

  /* What is shown while nothing new comes is as old as it says. */
  function live(trouble) {
    const word = page.querySelector("[data-live-word]");
    const dot = page.querySelector("[data-live-dot]");
    if (!trouble) { freshAt = new Date(); }
    const clock = freshAt.toLocaleTimeString("ru", { hour: "2-digit", minute: "2-digit" });
    const text = trouble ? trouble + " " + words.asOf.replace("{moment}", clock) : words.fine;
    page.classList.toggle("ns-lost", Boolean(trouble));
    dot.classList.toggle("status-dot-live", !trouble);
    dot.classList.toggle("status-dot-error", Boolean(trouble));
    if (word.textContent !== text) { word.textContent = text; }
  }

  /* Why an answer is none; without a password nothing more is asked for, lest the browser ask for
     it again and again. */
  async function fault(answer) {
    if (answer.status === 401) {
      clearInterval(looking);
      return words.signedOut;
    }
    try {
      return (await answer.json()).error || words.lost;
    } catch (error) {
      return words.lost;
    }
  }

  async function look() {
    if (document.hidden) { return; }
    if (asking) { again = true; return; }
    asking = new AbortController();
    const patience = setTimeout(() => asking.abort(), 5 * EVERY_MS);
    try {
      const headers = mark ? { "If-None-Match": mark } : {};
      const answer = await fetch(new URL(page.dataset.live, here), { signal: asking.signal, headers });
      const same = answer.status === 304;
      if (answer.ok) {
        show(await answer.json());
        mark = answer.headers.get("ETag") || "";
      }
      live(answer.ok || same ? "" : await fault(answer));
    } catch (error) {
      live(words.lost);
    } finally {
      clearTimeout(patience);
      asking = null;
      if (again) { again = false; look(); }
    }
  }

  /* ---- the zone of whoever looks: the server writes times, so it must know */

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  const zoneChanged = zone && cookie("ns_zone") !== zone;
  if (zoneChanged) {
    document.cookie = "ns_zone=" + encodeURIComponent(zone) + "; path=/; SameSite=Strict";
  }

  function cookie(name) {
    const found = document.cookie.split("; ").find((each) => each.startsWith(name + "="));
    return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
  }

  /* ---- clicks */

  const question = document.querySelector("[data-question]");
  const filled = document.querySelector("[data-filled]");

  function tell(text, fine) {
    const toast = document.createElement("div");
    toast.className = "toast ns-toast ns-toast-" + (fine ? "fine" : "bad");
    toast.setAttribute("role", fine ? "status" : "alert");
    const body = document.createElement("div");
    body.className = "toast-body";
    body.textContent = text;
    toast.appendChild(body);
    document.getElementById("toast-container").appendChild(toast);
    toast.addEventListener("hidden.bs.toast", () => toast.remove());
    bootstrap.Toast.getOrCreateInstance(toast, { delay: fine ? 6000 : 12000 }).show();
  }

  function agreed(text, yes) {
    if (!text) { return Promise.resolve(true); }
    question.querySelector("p").textContent = text;
    question.querySelector("[data-yes]").textContent = yes;
    question.returnValue = "no";
    question.showModal();
    return new Promise(function (resolve) {
      question.addEventListener("close", () => resolve(question.returnValue === "yes"), { once: true });
    });
  }

  async function send(address, body) {
    try {
      const answer = await fetch(new URL(address, here), {
        method: "POST",
        headers: { "X-XSRFToken": cookie("_xsrf") },
        body: body || null,
      });
      if (answer.status === 401) { return { text: words.signedOut, done: false }; }
      const came = await answer.json();
      return { text: came.text || came.error, done: Boolean(came.done) };
    } catch (error) {
      return { text: words.unsent, done: false };
    }
  }

  /* A button that waits keeps the focus, which one that is disabled does not. */
  async function busy(button, work) {
    if (button.getAttribute("aria-disabled") === "true") { return; }
    button.setAttribute("aria-disabled", "true");
    try {
      await work();
    } finally {
      button.removeAttribute("aria-disabled");
    }
  }

  async function click(button) {
    if (!await agreed(button.dataset.ask, button.dataset.yes)) { return; }
    await busy(button, async function () {
      const came = await send(button.dataset.click);
      tell(came.text, came.done);
    });
    look();
  }

  /* ---- what is filled in before a click */

  async function open(button) {
    await busy(button, async function () {
      try {
        const answer = await fetch(new URL(button.dataset.form, here));
        if (!answer.ok) { tell(await fault(answer), false); return; }
        filled.innerHTML = await answer.text();
        filled.showModal();
      } catch (error) {
        tell(words.lost, false);
      }
    });
  }

  async function submit(form) {
    const button = form.querySelector(".btn-primary");
    const fields = new URLSearchParams(new FormData(form));
    const fault = form.querySelector("[data-form-error]");
    const causes = form.querySelectorAll("[name=code]");
    if (causes.length && !fields.has("code")) { causes[0].focus(); return; }
    await busy(button, async function () {
      const came = await send(form.dataset.click, fields);
      fault.hidden = came.done;
      fault.textContent = came.text;
      if (came.done) {
        filled.close();
        tell(came.text, true);
      }
    });
    look();
  }

  filled.addEventListener("submit", function (event) {
    event.preventDefault();
    submit(event.target);
  });

  /* ---- several jobs at a time */

  const bulk = page.querySelector("[data-bulk]");

  function chosen() {
    return Array.from(page.querySelectorAll("[data-choice]:checked"));
  }

  function choose() {
    if (!bulk) { return; }
    const some = chosen();
    bulk.querySelector("[data-bulk-chosen]").hidden = !some.length;
    bulk.querySelector("[data-bulk-count]").textContent = some.length;
    for (const button of bulk.querySelectorAll("[data-bulk-wish]")) {
      const count = addresses(some, button.dataset.bulkWish).length;
      button.hidden = !count;
      button.querySelector("[data-bulk-of]").textContent = count;
    }
  }

  /* Those of the chosen with which it can be done. */
  function addresses(some, wish) {
    const buttons = some.map((each) => each.closest("tr").querySelector('[data-click$="/' + wish + '"]'));
    return buttons.filter(Boolean).map((button) => button.dataset.click);
  }

  async function together(button) {
    const some = addresses(chosen(), button.dataset.bulkWish);
    const text = (button.dataset.ask || "").replace("{n}", some.length);
    if (!await agreed(text, button.dataset.yes)) { return; }
    await busy(button, async function () {
      const came = await Promise.all(some.map((address) => send(address)));
      const fine = came.filter((each) => each.done);
      if (fine.length) { tell(button.dataset.done.replace("{n}", fine.length), true); }
      new Set(came.filter((each) => !each.done).map((each) => each.text)).forEach((each) => tell(each, false));
    });
    look();
  }

  page.addEventListener("change", function (event) {
    if (event.target.matches("[data-choice]")) { choose(); }
    const tools = event.target.closest("[data-tools]");
    if (!tools || !event.target.matches("select")) { return; }
    if (event.target.name === "sort") { tools.elements.order.value = ""; }
    tools.requestSubmit();
  });

  /* ---- copying */

  /* Over plain HTTP from another machine there is no clipboard; what is marked can be copied. */
  async function copy(button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      tell(words.copied, true);
    } catch (error) {
      getSelection().selectAllChildren(button.previousElementSibling);
      const done = document.execCommand("copy");
      tell(done ? words.copied : words.notCopied, done);
    }
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest("button");
    if (!button) { return; }
    if (button.dataset.click) { click(button); }
    if (button.dataset.form) { open(button); }
    if (button.dataset.copy) { copy(button); }
    if (button.dataset.bulkWish) { together(button); }
    if ("close" in button.dataset) { filled.close(); }
    if (button.dataset.choose) {
      const all = button.dataset.choose === "all";
      page.querySelectorAll("[data-choice]").forEach((each) => { each.checked = all; });
      choose();
      if (!all) { bulk.querySelector("[data-choose=all]").focus(); }
    }
  });

  const looking = setInterval(() => asking || look(), EVERY_MS);
  document.addEventListener("visibilitychange", look);
  window.addEventListener("online", look);
  if (zoneChanged) { look(); }
}());
