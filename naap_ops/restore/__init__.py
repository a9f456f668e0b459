"""A backup back into a database: loaded aside, checked, swapped in; never written into what is live."""
