/* Flower's own pages. Chunks in its table of tasks: told apart by the end of their ids, each with a way
   to its job. */
(function () {
  "use strict";

  const JOB = /^job_[0-9a-z]{26}$/;

  function shorten(link) {
    const id = link.title;
    const [job, chunk] = id.split("/");
    if (!JOB.test(job) || !chunk) { return; }
    link.textContent = job.slice(-6) + "/" + chunk;
    const to = document.createElement("a");
    to.href = link.getAttribute("href").replace(/\/task\/.*$/, "/job/" + job);
    to.textContent = "→";
    to.title = job;
    to.setAttribute("aria-label", job);
    link.after(" ", to);
  }

  // Whose chunks are asked for: a job's page leads here with its id.
  const job = new URLSearchParams(location.search).get("job") || "";

  function ours(options) {
    // Flower has the header as a table of its own, which is not as wide as the body where cells wrap.
    const changed = Object.assign({}, options, { scrollX: false });
    if (JOB.test(job) && options.serverSide) {
      changed.oSearch = { sSearch: job };
      changed.stateLoadParams = function (settings, data) {
        const kept = options.stateLoadParams.call(this, settings, data);
        data.search.search = job;
        return kept;
      };
    }
    return changed;
  }

  const table = $.fn.DataTable;
  $.fn.DataTable = function (options) {
    return table.call(this, options && ours(options));
  };
  Object.assign($.fn.DataTable, table);

  $(document).on("draw.dt", "#tasks-table", function () {
    this.querySelectorAll("td a[title]").forEach(shorten);
  });

  // What says what it is to those who do not see it: DataTables has a role under a wrong name.
  $(document).on("draw.dt", function (event) {
    $(event.target).closest(".dataTables_wrapper").find("[aria-role]").each(function () {
      this.setAttribute("role", this.getAttribute("aria-role"));
      this.removeAttribute("aria-role");
    });
  });
  $("main:not(:has(h1)) .page-eyebrow").attr({ role: "heading", "aria-level": 1 });
}());
