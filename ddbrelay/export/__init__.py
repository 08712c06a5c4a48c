"""Deployable projects and policies, made from the same configuration that the relay reads."""
