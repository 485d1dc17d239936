"""The program at the user's side: it reads, keeps, feeds, gathers, and tells what came of it."""
