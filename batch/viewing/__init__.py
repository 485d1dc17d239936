"""`nightshift show JOB --open`: requests on a page that this machine alone can open."""
