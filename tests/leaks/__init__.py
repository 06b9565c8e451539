"""``make leaks``: run a real Airflow with recognisable credentials, let everything fail, and search what is left.

``forms`` spells a credential in all ways that a search must know. ``search`` finds them in bytes. ``places`` reads what
an Airflow leaves behind, and ``watch`` what is there only while it runs. ``world`` has the Hubs with their faults and
the credentials, ``stage`` the Airflow, ``visitors`` who asks its API, and ``report`` what is allowed where.
"""
