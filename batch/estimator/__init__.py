"""What a job will cost and how long it will take, before it is sent and while it runs.

shape      what of a request's size can be told at a glance: characters by script
sample     some hundreds of requests, spread over the file, that stand for all
fit        tokens from a shape: a small regression that starts from what is usual
lessons    what the answers of this and earlier jobs of the home taught, per endpoint and model
reckon     shapes × lessons × prices → low, likely, high
tokenizer  exact counts instead, where the user gives a tokenizer file
"""
