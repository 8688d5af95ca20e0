-- Rows of rrset and link without records tell followers what is gone. Those up to a revision are deleted once every follower
-- that runs has seen them; one that has not begins anew.
ALTER TABLE meta ADD COLUMN purged INTEGER NOT NULL DEFAULT 0;    -- up to this revision
ALTER TABLE meta ADD COLUMN marked INTEGER NOT NULL DEFAULT 0;    -- the revision to go up to next,
ALTER TABLE meta ADD COLUMN marked_at INTEGER NOT NULL DEFAULT 0; -- and when it was the newest
CREATE INDEX rrset_gone ON rrset (revision) WHERE records IS NULL;
CREATE INDEX link_gone ON link (revision) WHERE records IS NULL;
-- The ring: who looks for the link before a name does not walk over those that are gone.
CREATE INDEX link_ring ON link (domain_id, hash) WHERE records IS NOT NULL;
