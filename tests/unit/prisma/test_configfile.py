"""``prisma.config.ts`` is read without being run: what is plain is understood, what is too clever is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from naap_ops.prisma import configfile


def read(tmp_path: Path, text: str, name: str = "prisma.config.ts") -> configfile.ConfigFile:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return configfile.read(path)


PLEXICA = """
import 'dotenv/config'; // the variables
import { defineConfig, env } from 'prisma/config';
/* schema: 'not/this.prisma' */
export default defineConfig({
  schema: './schema.prisma',
  migrations: { path: './migrations', seed: `tsx ./seed.ts` },
  datasource: { url: env('DIRECT_URL') },
});
"""


def test_what_the_guides_show(tmp_path: Path) -> None:
    found = read(tmp_path, PLEXICA, "prisma/prisma.config.ts")
    assert found.schema == tmp_path / "prisma" / "schema.prisma"
    assert found.migrations == tmp_path / "prisma" / "migrations"
    assert found.url == ("DIRECT_URL",)
    assert found.problems == ()


@pytest.mark.parametrize(
    "text",
    [
        "export default { schema: path.join('db', 'models') } satisfies PrismaConfig",
        "export default { 'schema': path.join(__dirname, `db`, \"models\"), } as PrismaConfig;",
        "module.exports = { schema: ('db/' as string) && 'x', schema: 'db/models' }",
        "const d: string = 'db/models'\nconst c: PrismaConfig = { early: true, schema: d }\nexport default c",
        "const base = { schema: 'db/models' };\nexport default defineConfig({ ...base, migrations: { seed: 'x' } })",
        "const schema = 'db/models';\nexport default defineConfig({ async adapter() { return { schema: 1 } }, schema })",
        "export default defineConfig({ adapter: async () => { return f({}) }, schema: 'db\\u002fmodels' })",
    ],
)
def test_ways_to_write_a_path(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text)
    assert found.schema == tmp_path / "db" / "models"
    assert found.problems == ()


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("process.env.A_URL", ("A_URL",)),
        ("process.env['A_URL']!", ("A_URL",)),
        ("process.env.A_URL ?? process.env.B_URL ?? ''", ("A_URL", "B_URL")),
        ("env<Env>('A_URL')", ()),
    ],
)
def test_ways_to_write_a_url(tmp_path: Path, expression: str, names: tuple[str, ...]) -> None:
    assert read(tmp_path, f"export default {{ datasource: {{ url: {expression} }} }}").url == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("export default { schema: where() }", "schema is worked out by code (where(...))"),
        ("export default { schema: `${dir}/schema.prisma` }", "schema is worked out by code"),
        ("export default { schema: prod ? 'a' : 'b' }", "schema is worked out by code"),
        ("export default { ...base, schema: 'a' }", "migrations.path is worked out by code"),
        ("export default makeConfig()", "exports no plain object"),
        ("export default defineConfig(", "exports no plain object"),
        ("", "exports no plain object"),
        ("{{{ 'unclosed", "exports no plain object"),
    ],
)
def test_what_is_too_clever_is_said(tmp_path: Path, text: str, said: str) -> None:
    assert said in " ".join(read(tmp_path, text).problems)


def test_the_file_that_prisma_would_take(tmp_path: Path) -> None:
    (tmp_path / ".config").mkdir()
    (tmp_path / "prisma").mkdir()
    order = ["prisma/prisma.config.ts", ".config/prisma.ts", "prisma.config.mjs", "prisma.config.ts", "prisma7.config.ts"]
    for name in order:
        (tmp_path / name).touch()
        assert configfile.find(tmp_path) == tmp_path / name
