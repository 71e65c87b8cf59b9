"""The demo: every part as a process of its own on this computer, and the proof that no sample was lost."""
