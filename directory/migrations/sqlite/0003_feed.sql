-- Whether what the world can see changed by a publication; of those made before, nobody knows that it did not.
ALTER TABLE publication ADD COLUMN public INTEGER NOT NULL DEFAULT 1;

-- Certificates by their RFC 4387 hashes: 61 bits of the hash, 3 that say of what it is.
CREATE TABLE certificate_key (
  key INTEGER NOT NULL,
  certificate_id INTEGER NOT NULL REFERENCES certificate (id),
  PRIMARY KEY (key, certificate_id)
) STRICT, WITHOUT ROWID;
ALTER TABLE meta ADD COLUMN keyed INTEGER NOT NULL DEFAULT 0;     -- whether certificates from before have theirs
