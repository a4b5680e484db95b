"""Policies: each turns scored candidates into slates with propensities."""
