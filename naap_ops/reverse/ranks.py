"""The order of the pieces that undo one statement: what was made goes, dependants first; what was changed is changed back;
what went is made, what others need first."""

from __future__ import annotations

from enum import IntEnum


class Rank(IntEnum):
    """Lower runs first."""

    # what was made, or must step aside for a change, goes
    DROP_EVENT_TRIGGER = 100
    DROP_PUBLICATION = 110
    DROP_POLICY = 120
    DROP_TRIGGER = 122
    DROP_RULE = 124
    DROP_STATISTICS = 126
    DROP_VIEW = 130
    DROP_FOREIGN_KEY = 140
    DROP_INDEX = 142
    DROP_CONSTRAINT = 144
    ROWS = 146
    UNLINK_DEFAULT = 148
    DROP_COLUMN = 150
    DROP_TABLE = 160
    DROP_ROUTINE = 170
    DROP_SEQUENCE = 180
    DROP_TYPE = 190
    DROP_OTHER = 192
    DROP_EXTENSION = 194
    DROP_SCHEMA = 198
    # what was changed is changed back
    RENAME_SCHEMA = 300
    ALTER_EXTENSION = 305
    RENAME = 310
    RENAME_COLUMN = 320
    RENAME_PART = 330
    ALTER_TYPE = 340
    ALTER_SEQUENCE = 345
    COLUMN_TYPE = 350
    AFTER_TYPE = 355
    ALTER_COLUMN = 360
    # what went is made
    CREATE_SCHEMA = 400
    CREATE_EXTENSION = 405
    CREATE_TYPE = 410
    CREATE_DOMAIN = 415
    CREATE_SEQUENCE = 420
    CREATE_ROUTINE = 430
    CREATE_TABLE = 440
    CREATE_COLUMN = 450
    FILL_COLUMN = 455
    COLUMN_NOT_NULL = 460
    OWN_SEQUENCE = 470
    ATTACH = 475
    CREATE_LATE_ROUTINE = 478
    CREATE_CONSTRAINT = 480
    CREATE_INDEX = 490
    CREATE_FOREIGN_KEY = 500
    ALTER_TABLE = 505
    CREATE_VIEW = 510
    CREATE_VIEW_INDEX = 515
    CREATE_STATISTICS = 520
    CREATE_RULE = 530
    CREATE_TRIGGER = 540
    CREATE_POLICY = 550
    ROW_SECURITY = 560
    CREATE_PUBLICATION = 570
    OWNER = 580
    PRIVILEGES = 585
    COMMENT = 590
    STATE = 595
    CREATE_EVENT_TRIGGER = 600
