"""`python -m batch` is `nightshift`."""

from batch.main import main

main()
