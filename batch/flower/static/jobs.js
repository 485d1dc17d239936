/* Keeps a page of jobs up to date, and hands clicks in. */
(function () {
  "use strict";

  const EVERY_MS = 2000;
  const page = document.querySelector("[data-live]");
  if (!page) { return; }
  const here = new URL(location.href);
  // A page that was opened with the password in its address must not ask with it there.
  here.username = here.password = "";
  const told = {};
  let asking = null;

  /* ---- keeping up to date: what is different is changed, and what is focused or pressed stays */

  function keyOf(node) {
    return node.dataset ? node.dataset.key || node.dataset.click || "" : "";
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
      if (!fresh.hasAttribute(name) && name !== "disabled") { old.removeAttribute(name); }
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

  function show(parts) {
    for (const [name, html] of Object.entries(parts)) {
      const part = page.querySelector('[data-part="' + name + '"]');
      if (!part || told[name] === html) { continue; }
      told[name] = html;
      const fresh = document.createElement("template");
      fresh.innerHTML = html;
      morphInside(part, fresh.content);
    }
  }

  function live(fine) {
    const dot = page.querySelector("[data-live-dot]");
    const word = page.querySelector("[data-live-word]");
    dot.classList.toggle("status-dot-live", fine);
    dot.classList.toggle("status-dot-error", !fine);
    word.textContent = fine ? word.dataset.fine : word.dataset.lost;
  }

  async function look() {
    if (document.hidden || asking) { return; }
    asking = new AbortController();
    const patience = setTimeout(() => asking.abort(), 5 * EVERY_MS);
    try {
      const answer = await fetch(new URL(page.dataset.live, here), { signal: asking.signal });
      if (answer.ok) { show(await answer.json()); }
      live(answer.ok);
    } catch (error) {
      live(false);
    } finally {
      clearTimeout(patience);
      asking = null;
    }
  }

  /* ---- clicks */

  function cookie(name) {
    const found = document.cookie.split("; ").find((each) => each.startsWith(name + "="));
    return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
  }

  function tell(text, fine) {
    const toast = document.createElement("div");
    toast.className = "toast align-items-center border-0 text-bg-" + (fine ? "success" : "danger");
    toast.setAttribute("role", fine ? "status" : "alert");
    const body = document.createElement("div");
    body.className = "toast-body";
    body.textContent = text;
    toast.appendChild(body);
    document.getElementById("toast-container").appendChild(toast);
    toast.addEventListener("hidden.bs.toast", () => toast.remove());
    bootstrap.Toast.getOrCreateInstance(toast, { delay: fine ? 4000 : 10000 }).show();
  }

  function agreed(question) {
    if (!question) { return Promise.resolve(true); }
    const dialog = document.querySelector(".ns-ask");
    dialog.querySelector("p").textContent = question;
    dialog.returnValue = "no";
    dialog.showModal();
    return new Promise(function (resolve) {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }

  async function click(button) {
    if (!await agreed(button.dataset.ask)) { return; }
    button.disabled = true;
    try {
      const answer = await fetch(new URL(button.dataset.click, here), {
        method: "POST",
        headers: { "X-XSRFToken": cookie("_xsrf") },
      });
      const came = await answer.json();
      tell(came.text || came.error, Boolean(came.done));
    } catch (error) {
      tell(page.querySelector("[data-live-word]").dataset.lost, false);
    } finally {
      button.disabled = false;
      look();
    }
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-click]");
    if (button && !button.disabled) { click(button); }
  });

  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
}());
