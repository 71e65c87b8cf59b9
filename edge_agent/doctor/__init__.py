"""What looks at an agent: ``edge check`` stays on this machine, ``edge doctor`` connects to everything as well.

Nothing here changes anything that an agent works with, and everything works beside a running one.
"""
