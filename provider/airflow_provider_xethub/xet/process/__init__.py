"""The process that runs a task: its threads, the names of its temporary files, and what a crash leaves of it."""
