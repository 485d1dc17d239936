/* Chunks in Flower's table of tasks: told apart by the end of their ids, each with a way to its job. */
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

  $(document).on("draw.dt", "#tasks-table", function () {
    this.querySelectorAll("td a[title]").forEach(shorten);
    // The header is a table of its own, and is made after the first draw.
    requestAnimationFrame(() => $(this).DataTable().columns.adjust());
  });
}());
