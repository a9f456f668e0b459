-- The sample database. rows_... are numbers of rows, filled in from the size wanted (bench/sample.py). Keys and indexes come
-- after the rows, as a loader would do it.

-- pick(n, salt, below): a number from a row's number, the same on every machine. lex: lines of words to make texts of.
CREATE SCHEMA bench;
CREATE FUNCTION bench.pick(n bigint, salt int, below bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN (hashint8extended(n, salt) & 9223372036854775807) % below;
CREATE FUNCTION bench.id(n bigint, salt int) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN md5(n::text || '/' || salt::text)::uuid;
CREATE UNLOGGED TABLE bench.word AS
  SELECT n AS i, (ARRAY['ba','co','di','fe','gu','ha','jo','ki','le','mu','na','po','ra','si','te','vu'])[1 + bench.pick(n, 1, 16)]
    || (ARRAY['r','n','s','l','t','m','nd','st'])[1 + bench.pick(n, 2, 8)]
    || (ARRAY['a','e','i','o','u','er','ing','tion','al','ed','','',''])[1 + bench.pick(n, 3, 13)] AS w
  FROM generate_series(0, 1499) n;
CREATE UNLOGGED TABLE bench.lex AS
  SELECT n AS i, string_agg(w.w, ' ' ORDER BY k) AS line
  FROM generate_series(0, 19999) n CROSS JOIN generate_series(1, 14) k
    JOIN bench.word w ON w.i = bench.pick(n * 14 + k, 4, 1 + bench.pick(n * 14 + k, 5, 1500))
  GROUP BY n;
ANALYZE bench.lex;

CREATE SCHEMA core; CREATE SCHEMA plugin_wallet; CREATE SCHEMA tenant_acme; CREATE SCHEMA tenant_globex;
CREATE TYPE public."Role" AS ENUM ('USER', 'EDITOR', 'ADMIN');
CREATE TYPE core.order_status AS ENUM ('NEW', 'PAID', 'SENT', 'RETURNED');

CREATE TABLE public."User" AS SELECT bench.id(n, 1) AS id, 'user' || n || '@example.org' AS email, l.line AS name,
  (ARRAY['USER','EDITOR','ADMIN'])[1 + bench.pick(n, 10, 3)]::public."Role" AS role,
  jsonb_build_object('theme', (ARRAY['dark','light'])[1 + bench.pick(n, 11, 2)], 'locale', 'en', 'flags', bench.pick(n, 12, 255)) AS settings,
  timestamptz '2024-01-01Z' + n * interval '7 minutes' AS "createdAt"
  FROM generate_series(1, $rows_user) n JOIN bench.lex l ON l.i = bench.pick(n, 13, 20000);

CREATE TABLE public."Invoice" AS SELECT bench.id(n, 2) AS id, n AS number, bench.id(1 + bench.pick(n, 20, $rows_user), 1) AS "userId",
  (bench.pick(n, 21, 1000000) / 100.0)::numeric(12,2) AS total, (ARRAY['EUR','USD','GBP'])[1 + bench.pick(n, 22, 3)] AS currency,
  jsonb_build_object('lines', bench.pick(n, 23, 9), 'po', md5(n::text)) AS meta, l.line AS note,
  timestamptz '2024-01-01Z' + n * interval '11 minutes' AS "issuedAt"
  FROM generate_series(1, $rows_invoice) n JOIN bench.lex l ON l.i = bench.pick(n, 24, 20000);

CREATE TABLE public."AuditEvent" AS SELECT n AS id, bench.id(1 + bench.pick(n, 30, $rows_user), 1) AS "userId",
  (ARRAY['login','logout','update','delete','export'])[1 + bench.pick(n, 31, 5)] AS action,
  jsonb_build_object('ip', '10.' || bench.pick(n, 32, 255) || '.' || bench.pick(n, 33, 255) || '.7', 'request', bench.id(n, 34),
    'agent', a.line, 'before', jsonb_build_object('note', b.line, 'v', bench.pick(n, 35, 100000)), 'after', jsonb_build_object('v', n)) AS payload,
  timestamptz '2024-01-01Z' + n * interval '41 seconds' AS at
  FROM generate_series(1, $rows_audit) n JOIN bench.lex a ON a.i = bench.pick(n, 36, 400) JOIN bench.lex b ON b.i = bench.pick(n, 37, 20000);

CREATE TABLE core.product AS SELECT n AS id, md5(n::text) AS sku, l.line AS title,
  (bench.pick(n, 40, 100000) / 100.0)::numeric(10,2) AS price
  FROM generate_series(1, $rows_product) n JOIN bench.lex l ON l.i = bench.pick(n, 41, 20000);

CREATE TABLE core."order" AS SELECT n AS id, bench.id(1 + bench.pick(n, 50, $rows_user), 1) AS user_id,
  (ARRAY['NEW','PAID','SENT','RETURNED'])[1 + bench.pick(n, 51, 4)]::core.order_status AS status, bench.id(n, 52) AS reference,
  timestamptz '2024-01-01Z' + n * interval '3 minutes' AS placed_at
  FROM generate_series(1, $rows_order) n;

CREATE TABLE core.order_item AS SELECT n AS id, 1 + bench.pick(n, 60, $rows_order) AS order_id, 1 + bench.pick(n, 61, $rows_product) AS product_id,
  (1 + bench.pick(n, 62, 5))::int AS quantity, (bench.pick(n, 63, 100000) / 100.0)::numeric(10,2) AS price
  FROM generate_series(1, $rows_item) n;

CREATE TABLE plugin_wallet.wallet AS SELECT bench.id(n, 1) AS user_id, (bench.pick(n, 70, 100000000) / 10000.0)::numeric(18,4) AS balance
  FROM generate_series(1, $rows_user) n;

CREATE TABLE plugin_wallet.transaction AS SELECT bench.id(n, 8) AS id, bench.id(1 + bench.pick(n, 80, $rows_user), 1) AS user_id,
  (bench.pick(n, 81, 1000000) / 10000.0)::numeric(18,4) AS amount, l.line AS memo, timestamptz '2024-01-01Z' + n * interval '53 seconds' AS booked_at
  FROM generate_series(1, $rows_transaction) n JOIN bench.lex l ON l.i = bench.pick(n, 82, 20000);

CREATE TABLE tenant_acme.document AS SELECT n AS id, a.line AS title,
  a.line || E'.\n' || b.line || '. ' || c.line || E'.\n\n' || d.line || '. ' || a.line || E'\t' || c.line || md5(n::text) AS body,
  ARRAY[left(b.line, 8), left(c.line, 5)] AS tags, jsonb_build_object('words', bench.pick(n, 90, 900)) AS meta
  FROM generate_series(1, $rows_document) n JOIN bench.lex a ON a.i = bench.pick(n, 91, 20000) JOIN bench.lex b ON b.i = bench.pick(n, 92, 20000)
    JOIN bench.lex c ON c.i = bench.pick(n, 93, 20000) JOIN bench.lex d ON d.i = bench.pick(n, 94, 20000);
CREATE TABLE tenant_globex.document AS SELECT * FROM tenant_acme.document WHERE id % 4 = 0;

CREATE TABLE public._prisma_migrations (id varchar(36) PRIMARY KEY NOT NULL, checksum varchar(64) NOT NULL, finished_at timestamptz,
  migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz, started_at timestamptz NOT NULL DEFAULT now(),
  applied_steps_count integer NOT NULL DEFAULT 0);
INSERT INTO public._prisma_migrations SELECT md5(n::text)::uuid::text, md5(n::text) || md5('x' || n), timestamptz '2026-01-01Z' + n * interval '1 day',
  '2026010' || n || '000000_step_' || n, NULL, NULL, timestamptz '2026-01-01Z' + n * interval '1 day', 1 FROM generate_series(1, 5) n;

CREATE TABLE plugin_wallet._prisma_migrations (id varchar(36) PRIMARY KEY NOT NULL, checksum varchar(64) NOT NULL, finished_at timestamptz,
  migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz, started_at timestamptz NOT NULL DEFAULT now(),
  applied_steps_count integer NOT NULL DEFAULT 0);
INSERT INTO plugin_wallet._prisma_migrations SELECT md5(n::text)::uuid::text, md5(n::text) || md5('x' || n), timestamptz '2026-01-01Z' + n * interval '1 day',
  '2026010' || n || '000000_step_' || n, NULL, NULL, timestamptz '2026-01-01Z' + n * interval '1 day', 1 FROM generate_series(1, 5) n;

ALTER TABLE public."User" ADD PRIMARY KEY (id), ALTER email SET NOT NULL, ADD UNIQUE (email);
ALTER TABLE public."Invoice" ADD PRIMARY KEY (id), ADD UNIQUE (number);
CREATE INDEX ON public."Invoice" ("userId"); CREATE INDEX ON public."Invoice" ("issuedAt");
ALTER TABLE public."AuditEvent" ADD PRIMARY KEY (id);
CREATE INDEX ON public."AuditEvent" ("userId", at); CREATE INDEX ON public."AuditEvent" (action, at);
ALTER TABLE core.product ADD PRIMARY KEY (id), ADD UNIQUE (sku);
ALTER TABLE core."order" ADD PRIMARY KEY (id); CREATE INDEX ON core."order" (user_id); CREATE INDEX ON core."order" (placed_at);
ALTER TABLE core.order_item ADD PRIMARY KEY (id); CREATE INDEX ON core.order_item (order_id); CREATE INDEX ON core.order_item (product_id);
ALTER TABLE plugin_wallet.wallet ADD PRIMARY KEY (user_id);
ALTER TABLE plugin_wallet.transaction ADD PRIMARY KEY (id); CREATE INDEX ON plugin_wallet.transaction (user_id, booked_at);
ALTER TABLE tenant_acme.document ADD PRIMARY KEY (id); CREATE INDEX ON tenant_acme.document USING gin (tags);
ALTER TABLE tenant_globex.document ADD PRIMARY KEY (id);
ALTER TABLE public."Invoice" ADD FOREIGN KEY ("userId") REFERENCES public."User" (id) ON DELETE RESTRICT;
ALTER TABLE public."AuditEvent" ADD FOREIGN KEY ("userId") REFERENCES public."User" (id);
ALTER TABLE core."order" ADD FOREIGN KEY (user_id) REFERENCES public."User" (id);
ALTER TABLE core.order_item ADD FOREIGN KEY (order_id) REFERENCES core."order" (id), ADD FOREIGN KEY (product_id) REFERENCES core.product (id);
ALTER TABLE plugin_wallet.wallet ADD FOREIGN KEY (user_id) REFERENCES public."User" (id);
ALTER TABLE plugin_wallet.transaction ADD FOREIGN KEY (user_id) REFERENCES plugin_wallet.wallet (user_id);
CREATE VIEW core.revenue AS SELECT product_id, sum(quantity * price) AS total FROM core.order_item GROUP BY product_id;
CREATE SEQUENCE core.order_number START 1000; SELECT setval('core.order_number', 4711);
DROP SCHEMA bench CASCADE;
