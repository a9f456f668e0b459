-- A platform database in the manner of the NAAP guide: core tables in public, one schema per plugin, Prisma's conventions
-- (quoted camel case, text ids, enums, _prisma_migrations).

CREATE SCHEMA plugin_community;
CREATE SCHEMA plugin_wallet;
CREATE SCHEMA plugin_dashboard;
CREATE SCHEMA plugin_gateway;

CREATE TYPE "Role" AS ENUM ('ADMIN', 'MEMBER', 'VIEWER');
CREATE TYPE plugin_wallet."TransactionState" AS ENUM ('PENDING', 'SETTLED', 'FAILED');

CREATE TABLE "User" (
    "id" TEXT NOT NULL,
    "email" TEXT NOT NULL,
    "displayName" TEXT,
    "phone" TEXT,
    "role" "Role" NOT NULL DEFAULT 'MEMBER',
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "User_pkey" PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "User_email_key" ON "User"("email");

CREATE TABLE "Team" (
    "id" SERIAL PRIMARY KEY,
    "name" TEXT NOT NULL,
    "settings" JSONB NOT NULL DEFAULT '{}'
);

CREATE TABLE "TeamMember" (
    "teamId" INTEGER NOT NULL REFERENCES "Team"("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "userId" TEXT NOT NULL REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT "TeamMember_pkey" PRIMARY KEY ("teamId", "userId")
);

CREATE TABLE plugin_community."CommunityPost" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "authorId" TEXT NOT NULL REFERENCES "User"("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    "title" TEXT NOT NULL,
    "body" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX "CommunityPost_authorId_createdAt_idx" ON plugin_community."CommunityPost"("authorId", "createdAt" DESC);

CREATE TABLE plugin_community."Vote" (
    "postId" TEXT NOT NULL REFERENCES plugin_community."CommunityPost"("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "userId" TEXT NOT NULL,
    "value" SMALLINT NOT NULL,
    CONSTRAINT "Vote_pkey" PRIMARY KEY ("postId", "userId")
);

CREATE TABLE plugin_wallet."WalletConnection" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "userId" TEXT NOT NULL REFERENCES "User"("id"),
    "address" TEXT NOT NULL UNIQUE
);

CREATE TABLE plugin_wallet."Transaction" (
    "id" BIGSERIAL PRIMARY KEY,
    "walletId" TEXT NOT NULL REFERENCES plugin_wallet."WalletConnection"("id"),
    "amount" DECIMAL(65, 30) NOT NULL,
    "state" plugin_wallet."TransactionState" NOT NULL DEFAULT 'PENDING',
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX "Transaction_open_idx" ON plugin_wallet."Transaction"("walletId") WHERE "state" = 'PENDING';

CREATE TABLE plugin_dashboard."Preference" (
    "userId" TEXT NOT NULL PRIMARY KEY REFERENCES "User"("id"),
    "layout" JSONB NOT NULL,
    "tags" TEXT[] DEFAULT ARRAY[]::TEXT[]
);

CREATE TABLE plugin_gateway."Metric" (
    "at" TIMESTAMP(3) NOT NULL,
    "gateway" TEXT NOT NULL,
    "latencyMs" DOUBLE PRECISION NOT NULL
);
CREATE INDEX "Metric_at_idx" ON plugin_gateway."Metric"("at");
CREATE VIEW plugin_gateway."Slow" AS SELECT * FROM plugin_gateway."Metric" WHERE "latencyMs" > 200;

CREATE TABLE "_prisma_migrations" (
    "id" VARCHAR(36) PRIMARY KEY NOT NULL,
    "checksum" VARCHAR(64) NOT NULL,
    "finished_at" TIMESTAMPTZ,
    "migration_name" VARCHAR(255) NOT NULL,
    "logs" TEXT,
    "rolled_back_at" TIMESTAMPTZ,
    "started_at" TIMESTAMPTZ NOT NULL DEFAULT now(),
    "applied_steps_count" INTEGER NOT NULL DEFAULT 0
);

INSERT INTO "User" SELECT 'user_' || g, 'user' || g || '@example.org', 'Üser ' || g, '+49 30 ' || g,
    (ARRAY['ADMIN', 'MEMBER', 'VIEWER']::"Role"[])[1 + g % 3], timestamp '2026-01-01' + g * interval '1 minute'
    FROM generate_series(1, 20000) g;
INSERT INTO "Team" ("name", "settings") SELECT 'Team ' || g, jsonb_build_object('seats', g, 'plan', 'pro') FROM generate_series(1, 500) g;
INSERT INTO "TeamMember" SELECT 1 + g % 500, 'user_' || g FROM generate_series(1, 20000) g;
INSERT INTO plugin_community."CommunityPost" SELECT 'post_' || g, 'user_' || (1 + g % 20000), 'Post ' || g, repeat(md5(g::text) || E'\n', 6),
    timestamp '2026-02-01' + g * interval '1 minute' FROM generate_series(1, 30000) g;
INSERT INTO plugin_community."Vote" SELECT 'post_' || (1 + g % 30000), 'user_' || (1 + (g * 7) % 20000), (g % 2) * 2 - 1
    FROM generate_series(1, 60000) g ON CONFLICT DO NOTHING;
INSERT INTO plugin_wallet."WalletConnection" SELECT 'wallet_' || g, 'user_' || g, '0x' || md5(g::text) FROM generate_series(1, 8000) g;
INSERT INTO plugin_wallet."Transaction" ("walletId", "amount", "state") SELECT 'wallet_' || (1 + g % 8000), g * 1.01,
    (ARRAY['PENDING', 'SETTLED', 'FAILED']::plugin_wallet."TransactionState"[])[1 + g % 3] FROM generate_series(1, 80000) g;
INSERT INTO plugin_dashboard."Preference" SELECT 'user_' || g, jsonb_build_object('columns', g % 4, 'theme', 'dark'), ARRAY['a', 'b\c', NULL]
    FROM generate_series(1, 15000) g;
INSERT INTO plugin_gateway."Metric" SELECT timestamp '2026-03-01' + g * interval '10 seconds', 'gw-' || g % 12, (g * 7919 % 400) + 0.5
    FROM generate_series(1, 120000) g;
INSERT INTO "_prisma_migrations" ("id", "checksum", "finished_at", "migration_name", "applied_steps_count", "started_at") VALUES
    ('6b0f8b53-6d5c-4a3c-9a8e-2f1f3c6c1a01', repeat('a1', 32), '2026-01-01 10:00:01+00', '20260101100000_init', 1, '2026-01-01 10:00:00+00'),
    ('6b0f8b53-6d5c-4a3c-9a8e-2f1f3c6c1a02', repeat('b2', 32), '2026-02-01 10:00:01+00', '20260201100000_plugins', 1, '2026-02-01 10:00:00+00');
