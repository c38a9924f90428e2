"""Foundations that all packages share: errors, validated records, files and checks. Nothing here imports torch."""
