"""Words to the user at a job's end and at trouble that needs them: webhook, Telegram, mail."""
