-- What a careless migration does: a column dropped, a table dropped, rows rewritten and deleted, an enum narrowed.
ALTER TABLE "User" DROP COLUMN "phone";
UPDATE "User" SET "displayName" = NULL;
DROP TABLE plugin_community."Vote";
DELETE FROM plugin_community."CommunityPost" WHERE "createdAt" < '2026-02-15';
DROP VIEW plugin_gateway."Slow";
TRUNCATE plugin_gateway."Metric";
UPDATE plugin_wallet."Transaction" SET "state" = 'SETTLED', "amount" = 0 WHERE "state" = 'PENDING';
INSERT INTO "_prisma_migrations" ("id", "checksum", "finished_at", "migration_name", "applied_steps_count") VALUES
    ('6b0f8b53-6d5c-4a3c-9a8e-2f1f3c6c1a03', repeat('c3', 32), now(), '20261121090000_cleanup', 1);
