-- Who may write: each start on this file raises the epoch, and a program whose epoch is past writes nothing more.
CREATE TABLE owner (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL
) STRICT;

INSERT INTO owner (one, epoch) VALUES (1, 0);
