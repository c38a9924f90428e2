"""What all packages share: the error class, validated records, files, checks of values, and units.

Nothing here imports torch. Import from the modules: ``from leanrx_core.errors import UserError``.
"""
