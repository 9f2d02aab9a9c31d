"""What all tables belong to. Indexes and constraints are named by one convention: migrations change them by name.

Of what an index holds only some rows of, there is one expression, which queries repeat to the letter.
"""

from sqlalchemy import ColumnElement, Integer, MetaData, String, literal_column

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ZERO: ColumnElement[int] = literal_column("0", Integer)
NO_TEXT: ColumnElement[str] = literal_column("''", String)
"""For such expressions: a parameter in its place would hide from the database that the index has what is asked for."""
