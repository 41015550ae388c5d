"""What the product needs from the machine: Java, jars, ports, child processes; and a doctor.

Belongs here: anything about this computer. Does not belong here: tweets, models, streams.
"""
