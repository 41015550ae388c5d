"""Groups of commands of the command line, a module each; ``cli`` puts them together.

Belongs here: arguments in, one function call, figures out. Imports stay inside the commands.
"""
