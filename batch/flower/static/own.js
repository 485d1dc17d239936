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

  // Flower has the header as a table of its own, which is not as wide as the body where cells wrap.
  const table = $.fn.DataTable;
  $.fn.DataTable = function (options) {
    return table.call(this, options && Object.assign({}, options, { scrollX: false }));
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
