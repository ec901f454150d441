"""All SQL: one statement a file under store/sql, a thin typed function each. Only here is psycopg imported."""
