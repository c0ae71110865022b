"""`manage.py chaos`: faults for a running installation, and a verdict read off its database afterwards.

Kills and stops only processes that the installation's own database names as its workers on this host, and the server
beside them.
"""
