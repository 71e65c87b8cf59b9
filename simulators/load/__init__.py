"""``shopfloor simulate load``: as much traffic as is asked for, from several processes, every value of it foreseeable."""
