"""What a job will cost and how long it will take, before it is sent and while it runs.

character_counts  what of a request's size can be told at a glance: characters by script
sample            some hundreds of requests, spread over the file, that stand for all
prompt_tokens     tokens from a shape: a small regression that starts from what is usual
model_statistics  what the answers of this and earlier jobs of the home taught, by model
cost_range        shapes × lessons × prices → low, likely, high
tokenizer_file    exact counts instead, where the user gives a tokenizer file
"""
