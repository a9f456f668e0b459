-- Every kind of table that PostgreSQL knows, with rows and names that are hard to write down.
create schema "DATA"; create schema "ATTACH"; create schema "sp ace; Type: TABLE DATA; Schema: x";
create type public.mood as enum ('happy', 'it''s; -- complicated', E'tab\t');
create domain public.short as varchar(20) check (length(value) < 15);
create table public."User" (id bigint generated always as identity primary key, name text not null, mood public.mood,
  tags text[], doc jsonb, raw bytea, doubled bigint generated always as (1 + 1) stored, at timestamptz default now());
insert into public."User" (name, mood, tags, doc, raw) select e, 'it''s; -- complicated', array[e, null, '\N'], to_jsonb(e), convert_to(e, 'utf8')
  from unnest(array[E'new\nline', E'carriage\rreturn', E'back\\slash \\. \\N', '\.', '\N', '', E'tab\t', 'ü 日本 😀', '%s %% {x} $(y)',
    '-- Data for Name: User; Type: TABLE DATA; Schema: public; Owner: postgres', 'COPY public."User" FROM stdin;', E'\x01\x7f']) e;
create table "DATA".t (i serial primary key, "user id" bigint references public."User");
insert into "DATA".t ("user id") select id from public."User";
create table "ATTACH"."TABLE DATA public t" (i int); insert into "ATTACH"."TABLE DATA public t" values (1), (2);
create table "sp ace; Type: TABLE DATA; Schema: x"."quo""te'd \ name; Type: TABLE; Schema: y" ("col ""umn" int unique);
insert into "sp ace; Type: TABLE DATA; Schema: x"."quo""te'd \ name; Type: TABLE; Schema: y" values (7);
create table public."new
line" (i int); insert into public."new
line" values (1), (2), (3);
create table public."sixty-three bytes ......................................... end" (i int);
create table public."-leading dash" (i int); insert into public."-leading dash" values (1);
create table public."100%" (i int); insert into public."100%" values (1);
create table public.nothing (); insert into public.nothing default values; insert into public.nothing default values;
create table public.no_columns_no_rows ();
create table public.empty (i int);
create unlogged table public.fleeting (i int); insert into public.fleeting values (1), (2);
create table public.event (at date not null, what text, primary key (at, what)) partition by range (at);
create table public.event_2025 partition of public.event for values from ('2025-01-01') to ('2026-01-01');
create table "DATA".event_2026 partition of public.event for values from ('2026-01-01') to ('2027-01-01') partition by list (what);
create table "ATTACH".event_2026_a partition of "DATA".event_2026 for values in ('a');
create table "ATTACH".event_2026_rest partition of "DATA".event_2026 default;
create index on public.event (what);
insert into public.event select date '2025-11-01' + i, case when i % 3 = 0 then 'a' else 'b' || i end from generate_series(1, 90) i;
create table public.parent (i int primary key); create table public.child (j int) inherits (public.parent);
insert into public.parent values (1), (2); insert into public.child values (3, 4);
create table public.big (i int, t text); alter table public.big alter t set storage external;
insert into public.big select i, repeat(chr(64 + i), 100000) from generate_series(1, 5) i;
create table public.secret (i int, owner text); insert into public.secret values (1, 'a'), (2, 'b');
alter table public.secret enable row level security; create policy p on public.secret using (owner = current_user);
create materialized view public.summary as select mood, count(*) from public."User" group by mood; create unique index on public.summary (mood);
create view public.by_key as select u.* from public."User" u group by u.id;
create function public.f(i int) returns int language sql immutable as $$
-- Data for Name: User; Type: TABLE DATA; Schema: public; Owner: postgres
select i $$;
create index on public.empty (public.f(i));
create function public.touch() returns trigger language plpgsql as $$ begin
  raise exception 'a restore must not fire this'; end $$;
create trigger touch before delete on public."User" for each row execute function public.touch();
create statistics public.st on i, owner from public.secret;
create sequence public.loose start 42; select nextval('public.loose'), nextval('public.loose');
create publication pub for table public.parent;
comment on table public."User" is 'ü; -- Name: x; Type: FK CONSTRAINT; Schema: y; Owner: z';
select lo_from_bytea(0, '\x00ff00');
