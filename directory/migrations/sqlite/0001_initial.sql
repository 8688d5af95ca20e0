-- One row: the counters of the store.
CREATE TABLE meta (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL,   -- the newest publication
  changed_at INTEGER NOT NULL, -- when it was made
  revision INTEGER NOT NULL,  -- one for each transaction that changed what followers show
  next_id INTEGER NOT NULL    -- the next free row number of domain, certificate and entry
) STRICT;
INSERT INTO meta (id, version, changed_at, revision, next_id) VALUES (1, 0, 0, 0, 1);

CREATE TABLE domain (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  settings TEXT NOT NULL,       -- JSON
  serial INTEGER NOT NULL,      -- SOA serial
  apex BLOB NOT NULL,           -- signed SOA, NS and DNSKEY
  inception INTEGER NOT NULL,   -- of the newest of these signatures
  refresh_at INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  added_at INTEGER NOT NULL,
  removed_at INTEGER            -- not hosted any more: kept for the history
) STRICT;
CREATE INDEX domain_refresh ON domain (refresh_at) WHERE removed_at IS NULL;
CREATE INDEX domain_inception ON domain (inception) WHERE removed_at IS NULL;
CREATE INDEX domain_revision ON domain (revision);

-- The master-file text of a mail domain's other records, as it was given.
CREATE TABLE fragment (
  domain_id INTEGER PRIMARY KEY REFERENCES domain (id),
  text TEXT NOT NULL
) STRICT;

-- What a zone holds beside its apex and its entries: records given, delegations, services. One without records is gone;
-- the row stays for followers.
CREATE TABLE rrset (
  domain_id INTEGER NOT NULL REFERENCES domain (id),
  owner BLOB NOT NULL,          -- wire form
  rtype INTEGER NOT NULL,
  standing INTEGER NOT NULL,    -- 0 data, 1 the NS of a delegation, 2 glue
  records BLOB,                 -- the RRset with its RRSIG
  inception INTEGER,            -- of a signature
  refresh_at INTEGER,
  revision INTEGER NOT NULL,
  PRIMARY KEY (domain_id, owner, rtype)
) STRICT, WITHOUT ROWID;
CREATE INDEX rrset_refresh ON rrset (refresh_at) WHERE refresh_at IS NOT NULL;
CREATE INDEX rrset_inception ON rrset (inception) WHERE inception IS NOT NULL;
CREATE INDEX rrset_revision ON rrset (revision);
-- Delegations and aliases, which leave no room for CERT records.
CREATE INDEX rrset_block ON rrset (domain_id, rtype) WHERE records IS NOT NULL AND rtype IN (2, 5, 39);

-- The NSEC3 chain of a zone that shows it whole: a link for each name. One without records is gone.
CREATE TABLE link (
  domain_id INTEGER NOT NULL REFERENCES domain (id),
  hash BLOB NOT NULL,
  types BLOB NOT NULL,          -- those of the name without RRSIG, two octets each
  below INTEGER NOT NULL,       -- names one label below
  records BLOB,                 -- the NSEC3 RRset with its RRSIG
  inception INTEGER,
  refresh_at INTEGER,
  revision INTEGER NOT NULL,
  PRIMARY KEY (domain_id, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX link_refresh ON link (refresh_at) WHERE refresh_at IS NOT NULL;
CREATE INDEX link_inception ON link (inception) WHERE inception IS NOT NULL;
CREATE INDEX link_revision ON link (revision);

CREATE TABLE certificate (
  id INTEGER PRIMARY KEY,
  sha256 BLOB NOT NULL UNIQUE,
  usage INTEGER NOT NULL,       -- SMIMEA usage: 2 a CA's, 3 a mailbox's
  der BLOB NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  common_name TEXT,
  subject TEXT NOT NULL,
  issuer TEXT NOT NULL,
  serial_hex TEXT NOT NULL,
  key_name TEXT NOT NULL
) STRICT;

-- A mailbox. Its visible certificates and signed records are what the world may see of it.
CREATE TABLE entry (
  id INTEGER PRIMARY KEY,
  domain_id INTEGER NOT NULL REFERENCES domain (id),
  address TEXT NOT NULL UNIQUE, -- in lower case
  version INTEGER NOT NULL,     -- of its last publication
  changed_at INTEGER NOT NULL,
  spellings TEXT NOT NULL,      -- as certificates write it, one a line
  records BLOB NOT NULL,        -- RRSIGs with owner, type and TTL; RDATA follows from the certificates
  inception INTEGER,            -- when the signatures begin
  refresh_at INTEGER,           -- when they are due for renewal
  due_at INTEGER,               -- when a certificate begins or ends
  revision INTEGER NOT NULL
) STRICT;
CREATE INDEX entry_refresh ON entry (refresh_at) WHERE refresh_at IS NOT NULL;
CREATE INDEX entry_inception ON entry (inception) WHERE inception IS NOT NULL;
CREATE INDEX entry_domain ON entry (domain_id);
CREATE INDEX entry_due ON entry (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX entry_revision ON entry (revision);

-- That a certificate was taken for a mailbox, and where it stands in its life. Never deleted: this is the history.
CREATE TABLE binding (
  entry_id INTEGER NOT NULL REFERENCES entry (id),
  certificate_id INTEGER NOT NULL REFERENCES certificate (id),
  spellings TEXT NOT NULL,      -- the mailbox as written, one a line
  asserted INTEGER NOT NULL,
  purposes INTEGER NOT NULL,    -- 1 encrypt, 2 sign, 4 issue
  slot TEXT NOT NULL,
  restored INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('staged', 'current', 'superseded', 'expired', 'withdrawn')),
  visible INTEGER NOT NULL,
  added_at INTEGER NOT NULL,
  added_version INTEGER NOT NULL,
  ended_at INTEGER,
  reason TEXT,
  PRIMARY KEY (entry_id, certificate_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX binding_certificate ON binding (certificate_id);

-- The numbered log. It names nobody: see publication_detail.
CREATE TABLE publication (
  version INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  domain_id INTEGER NOT NULL,
  action TEXT NOT NULL,
  commitment BLOB NOT NULL      -- SHA-256 over the salted detail
) STRICT;

-- What a commitment commits to; may be erased on request, the log stays as it is.
CREATE TABLE publication_detail (
  version INTEGER PRIMARY KEY REFERENCES publication (version),
  address TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  actor TEXT NOT NULL,
  reason TEXT,
  salt TEXT NOT NULL
) STRICT;

CREATE TABLE token (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  hash BLOB NOT NULL,           -- SHA-256 of the secret part
  role TEXT NOT NULL CHECK (role IN ('admin', 'publisher', 'reader')),
  domains TEXT NOT NULL,        -- one a line
  added_at INTEGER NOT NULL,
  revoked_at INTEGER
) STRICT;
