//! tonic servers: raw request to validated type; error to status code, in one table.
