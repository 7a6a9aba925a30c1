//! Records on disk: versioned, written atomically, migrated; one bad record harms one object.
