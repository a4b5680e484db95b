"""Experiments on live traffic: their definitions on a topic, their record in the log, and the command."""
