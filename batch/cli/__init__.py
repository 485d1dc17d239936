"""What the commands share of the talk with a person: options, tables, questions, last words."""
