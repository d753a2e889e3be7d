//! Every table of every schema has the class that `migrations/tables.toml` says, and what the class demands.
//! All faults are collected and shown at once.

use std::{collections::BTreeMap, fs, path::Path};

use mainstay_testkit::TestDatabase;
use serde::Deserialize;
use sqlx::{FromRow, PgConnection};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Class {
    Client,
    Agency,
    Directory,
    Operator,
    Infrastructure,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    class: Class,
    /// Why no row stays, instead of an expiry.
    consumed: Option<String>,
    /// Reviewed text columns of a directory table.
    #[serde(default)]
    text_columns: Vec<String>,
}

type Declarations = BTreeMap<String, BTreeMap<String, Declared>>;

fn declarations() -> Declarations {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/tables.toml");
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What the catalogue says of a table. Partitions are their parent's.
#[derive(Debug, FromRow)]
struct Table {
    name: String,
    owner: String,
    force_rls: bool,
    rls: bool,
    partitioned: bool,
    columns: Vec<String>,
    /// name and type of columns that are null-able or not, as `name:type:not_null`
    typed: Vec<String>,
    key: Vec<String>,
    policies: Vec<String>,
    app: Vec<String>,
    worker: Vec<String>,
    others: Vec<String>,
    touched: bool,
    created_at_default: bool,
    leading_index_columns: Vec<String>,
}

const TABLES: &str = "
select c.relname::text as name,
       c.relowner::regrole::text as owner,
       c.relrowsecurity as rls, c.relforcerowsecurity as force_rls, c.relkind = 'p' as partitioned,
       array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             order by 1) as columns,
       array(select format('%s:%s:%s', a.attname, format_type(a.atttypid, null), a.attnotnull) from pg_attribute a
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by 1) as typed,
       array(select a.attname::text from pg_index i, unnest(i.indkey) with ordinality as k (attnum, place)
             join pg_attribute a on a.attnum = k.attnum
             where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid order by k.place) as key,
       array(select format('%s %s to %s using %s check %s', p.policyname, p.cmd, p.roles, p.qual, p.with_check)
             from pg_policies p where p.schemaname = $1 and p.tablename = c.relname
               and p.permissive = 'PERMISSIVE' order by 1) as policies, -- a restrictive one can only narrow
       array(select p from unnest(array['select','insert','update','delete','truncate','references','trigger']) p
             where has_table_privilege($2, c.oid, p)) as app,
       array(select p from unnest(array['select','insert','update','delete','truncate','references','trigger']) p
             where has_table_privilege($3, c.oid, p)) as worker,
       array(select distinct g.grantee::regrole::text from aclexplode(c.relacl) g
             where g.grantee <> all (array[c.relowner, $2::regrole::oid, $3::regrole::oid])) as others,
       exists (select from pg_trigger t join pg_proc f on f.oid = t.tgfoid
               where t.tgrelid = c.oid and f.proname = 'touch_updated_at') as touched,
       exists (select from pg_attribute a join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
               where a.attrelid = c.oid and a.attname = 'created_at' and a.attnotnull
                 and a.atttypid = 'timestamptz'::regtype and pg_get_expr(d.adbin, d.adrelid) = 'now()') as created_at_default,
       array(select a.attname::text from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
             where i.indrelid = c.oid) as leading_index_columns
from pg_class c
where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
order by 1";

struct Schema<'a> {
    name: &'a str,
    app: String,
    worker: String,
    owner: String,
    declared: BTreeMap<String, Declared>,
    retained: Vec<String>,
    tables: Vec<Table>,
}

impl<'a> Schema<'a> {
    async fn read(
        test: &TestDatabase,
        admin: &mut PgConnection,
        name: &'a str,
        all: &Declarations,
    ) -> Self {
        let (app, worker) = (test.role(name, "app"), test.role(name, "worker"));
        let mut tables: Vec<Table> = sqlx::query_as(TABLES)
            .bind(name)
            .bind(&app)
            .bind(&worker)
            .fetch_all(&mut *admin)
            .await
            .unwrap();
        // To a superuser our functions print with their schema.
        let prefix = format!("{name}.");
        for policy in tables.iter_mut().flat_map(|table| &mut table.policies) {
            *policy = policy.replace(&prefix, "");
        }
        let mut declared = all.get("_core").cloned().unwrap_or_default();
        declared.extend(all.get(name).cloned().unwrap_or_default());
        let retained = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select table_name from {name}.retention"
        )))
        .fetch_all(admin)
        .await
        .unwrap();
        Self {
            name,
            app,
            worker,
            owner: test.role(name, "owner"),
            declared,
            retained,
            tables,
        }
    }
}

const TENANT: &str = "((agency_id = current_agency()) AND (tenant_id = current_tenant()))";
const DOOR: &str = "((agency_id = current_agency()) AND (sees_all_clients() OR (tenant_id = ANY (visible_clients()))))";
const AGENCY: &str = "(agency_id = current_agency())";

impl Table {
    fn has(&self, column: &str, kind: &str) -> bool {
        self.typed
            .iter()
            .any(|c| *c == format!("{column}:{kind}:t"))
    }

    /// What is wrong with it, given its class.
    fn faults(&self, schema: &Schema<'_>, declared: &Declared) -> Vec<String> {
        let mut faults = Vec::new();
        let mut demand = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("{}.{}: {what}", schema.name, self.name));
            }
        };
        let walls = self.rls && self.force_rls;
        let both = format!("{{{},{}}}", schema.app, schema.worker);
        let domain = matches!(declared.class, Class::Client | Class::Agency);
        demand(self.owner == schema.owner, "belongs to the owner role");
        demand(
            self.others.is_empty(),
            "grants something to others than the service's roles",
        );
        for never in ["truncate", "references", "trigger"] {
            let more = [&self.app, &self.worker]
                .iter()
                .any(|role| role.contains(&never.to_owned()));
            demand(!more, "gives the service's roles more than rows");
        }
        demand(
            self.created_at_default || declared.class == Class::Infrastructure,
            "needs created_at timestamptz not null default now()",
        );
        let mutable = self.app.contains(&"update".to_owned());
        if domain && mutable {
            demand(
                self.has("updated_at", "timestamp with time zone"),
                "is mutable and needs updated_at",
            );
        }
        demand(
            self.touched || !self.columns.contains(&"updated_at".to_owned()),
            "has updated_at without its trigger: call the procedure of its class",
        );
        match declared.class {
            Class::Client => {
                demand(walls, "needs row security, enabled and forced");
                demand(
                    self.has("agency_id", "uuid") && self.has("tenant_id", "uuid"),
                    "needs agency_id and tenant_id, uuid not null",
                );
                demand(
                    self.key.first().is_some_and(|c| c == "tenant_id"),
                    "needs a primary key that starts with tenant_id",
                );
                let wall = format!("tenant_wall ALL to {both} using {TENANT} check {TENANT}");
                let door = format!("agency_door SELECT to {both} using {DOOR} check ");
                demand(
                    self.policies == [door, wall],
                    "needs exactly the policies of client_table()",
                );
            }
            Class::Agency => {
                demand(walls, "needs row security, enabled and forced");
                demand(
                    self.has("agency_id", "uuid"),
                    "needs agency_id uuid not null",
                );
                demand(
                    self.key.first().is_some_and(|c| c == "agency_id"),
                    "needs a primary key that starts with agency_id",
                );
                let wall = format!("agency_wall ALL to {both} using {AGENCY} check {AGENCY}");
                demand(
                    self.policies == [wall],
                    "needs exactly the policy of agency_table()",
                );
            }
            Class::Directory => {
                demand(
                    !self.rls && self.policies.is_empty(),
                    "is read before anyone is known, and has no row security",
                );
                for column in &self.typed {
                    let mut parts = column.split(':');
                    let (name, kind) = (
                        parts.next().unwrap_or_default(),
                        parts.next().unwrap_or_default(),
                    );
                    let plain = [
                        "bytea",
                        "uuid",
                        "timestamp with time zone",
                        "boolean",
                        "integer",
                        "bigint",
                        "smallint",
                    ];
                    demand(
                        plain.contains(&kind) || declared.text_columns.iter().any(|c| c == name),
                        &format!(
                            "holds hashed keys and ids: column {name} {kind} is not among its text_columns"
                        ),
                    );
                }
            }
            Class::Operator => {
                demand(walls, "needs row security, enabled and forced");
                let all = format!(
                    "worker_all ALL to {{{}}} using true check true",
                    schema.worker
                );
                demand(
                    self.policies.contains(&all),
                    "needs the worker's policy of operator_table()",
                );
                for policy in self.policies.iter().filter(|p| **p != all) {
                    let walled =
                        policy.contains("current_agency()") && policy.contains("current_tenant()");
                    demand(
                        walled && policy.contains(&format!("to {{{}}}", schema.app)),
                        &format!("has a policy without a wall: {policy}"),
                    );
                }
                demand(
                    !self.app.contains(&"delete".to_owned()),
                    "is machinery's: the app role deletes nothing",
                );
            }
            Class::Infrastructure => {
                demand(
                    self.app.is_empty(),
                    "is machinery's: the app role has no business here",
                );
                demand(
                    self.policies.is_empty(),
                    "has policies but is infrastructure: call operator_table()",
                );
            }
        }
        if matches!(declared.class, Class::Operator | Class::Infrastructure) {
            let expires = schema.retained.contains(&self.name);
            demand(
                expires || declared.consumed.is_some(),
                "grows for ever: call expires(), or say how it is consumed",
            );
            demand(
                !expires
                    || self.leading_index_columns.iter().any(|c| c == "expires_at")
                    || self.partitioned,
                "needs an index on expires_at for its purge",
            );
        } else {
            demand(
                declared.consumed.is_none(),
                "only machinery's tables are consumed",
            );
        }
        faults
    }
}

async fn all_schemas<'a>(
    test: &TestDatabase,
    services: &'a [String],
    declarations: &Declarations,
) -> Vec<Schema<'a>> {
    let mut admin = test.admin().await;
    let mut schemas = Vec::new();
    for service in services {
        schemas.push(Schema::read(test, &mut admin, service, declarations).await);
    }
    schemas
}

fn services() -> Vec<String> {
    mainstay_testkit::postgres::migrations()
        .services()
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_table_has_its_class_and_what_the_class_demands() {
    let test = TestDatabase::new().await;
    let (services, declarations) = (services(), declarations());
    let mut faults = Vec::new();
    for schema in declarations
        .keys()
        .filter(|key| *key != "_core" && !services.contains(key))
    {
        faults.push(format!("tables.toml: there is no schema {schema}"));
    }
    for schema in all_schemas(&test, &services, &declarations).await {
        for table in &schema.tables {
            match schema.declared.get(&table.name) {
                Some(declared) => faults.extend(table.faults(&schema, declared)),
                None => faults.push(format!(
                    "{}.{}: not in tables.toml",
                    schema.name, table.name
                )),
            }
        }
        for name in schema
            .declared
            .keys()
            .filter(|name| !schema.tables.iter().any(|t| t.name == **name))
        {
            faults.push(format!(
                "{}.{name}: in tables.toml but not in the schema",
                schema.name
            ));
        }
        for name in schema
            .retained
            .iter()
            .filter(|name| !schema.tables.iter().any(|t| t.name == **name))
        {
            faults.push(format!(
                "{}.{name}: to be purged, but there is no such table",
                schema.name
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[derive(Debug, FromRow)]
struct ForeignKey {
    name: String,
    from_table: String,
    to_table: String,
    pairs: Vec<String>,
    indexed: bool,
}

const FOREIGN_KEYS: &str = "
select con.conname::text as name, f.relname::text as from_table, t.relname::text as to_table,
       array(select format('%s=%s', fa.attname, ta.attname)
             from unnest(con.conkey, con.confkey) as k (f, t)
             join pg_attribute fa on fa.attrelid = con.conrelid and fa.attnum = k.f
             join pg_attribute ta on ta.attrelid = con.confrelid and ta.attnum = k.t) as pairs,
       exists (select from pg_index i where i.indrelid = con.conrelid and i.indpred is null
                 and (i.indkey::int2[])[0:cardinality(con.conkey) - 1] <@ con.conkey
                 and con.conkey <@ (i.indkey::int2[])[0:cardinality(con.conkey) - 1]) as indexed
from pg_constraint con join pg_class f on f.oid = con.conrelid join pg_class t on t.oid = con.confrelid
where con.contype = 'f' and con.connamespace = $1::regnamespace and not f.relispartition and con.conparentid = 0
order by 1";

#[tokio::test]
async fn foreign_keys_carry_the_wall_and_have_an_index() {
    let test = TestDatabase::new().await;
    let (services, declarations) = (services(), declarations());
    let mut faults = Vec::new();
    for schema in all_schemas(&test, &services, &declarations).await {
        let keys: Vec<ForeignKey> = sqlx::query_as(FOREIGN_KEYS)
            .bind(schema.name)
            .fetch_all(&mut test.admin().await)
            .await
            .unwrap();
        for key in keys {
            let wall = match schema.declared.get(&key.to_table).map(|d| d.class) {
                Some(Class::Client) => Some("tenant_id=tenant_id"),
                Some(Class::Agency) => Some("agency_id=agency_id"),
                _ => None,
            };
            // A client table's key into the agency's own rows names the agency; other classes have no wall to carry.
            if let Some(wall) = wall
                && !key.pairs.iter().any(|pair| pair == wall)
                && !is_the_agency_itself(&key)
            {
                faults.push(format!(
                    "{}.{}: {} must include {wall}",
                    schema.name, key.from_table, key.name
                ));
            }
            if !key.indexed {
                faults.push(format!(
                    "{}.{}: {} has no index on its columns",
                    schema.name, key.from_table, key.name
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Identity's `agency` table, whose id is the agency's: `agency_id=id` is the wall.
fn is_the_agency_itself(key: &ForeignKey) -> bool {
    key.to_table == "agency" && key.pairs.iter().any(|pair| pair.starts_with("agency_id="))
}

#[tokio::test]
async fn no_role_reaches_another_services_schema() {
    let test = TestDatabase::new().await;
    let mut admin = test.admin().await;
    let services = services();
    for mine in &services {
        for kind in ["app", "worker", "migrator", "owner"] {
            let role = test.role(mine, kind);
            for other in services.iter().filter(|other| *other != mine) {
                let reaches: bool = sqlx::query_scalar(
                    "select has_schema_privilege($1, $2, 'usage') or has_schema_privilege($1, $2, 'create')
                         or exists (select from pg_class c where c.relnamespace = $2::regnamespace and c.relkind in ('r', 'p', 'S', 'v')
                                    and case when c.relkind = 'S' then has_sequence_privilege($1, c.oid, 'usage')
                                             else has_table_privilege($1, c.oid, 'select,insert,update,delete') end)",
                )
                .bind(&role)
                .bind(other)
                .fetch_one(&mut admin)
                .await
                .unwrap();
                assert!(!reaches, "{role} reaches {other}");
            }
        }
        let app = test.database(mine).await;
        let other = services.iter().find(|other| *other != mine).unwrap();
        let mut tx = app.directory().await.unwrap();
        let sql = format!("select count(*) from {other}.job");
        assert!(
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(tx.conn())
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn nothing_steps_over_row_security() {
    let test = TestDatabase::new().await;
    let functions = "select count(*) from pg_proc where prosecdef and pronamespace::regnamespace::text = any (array['identity','billing','messaging','escalation','integrations','public'])";
    assert_eq!(test.count(functions).await, 0, "no security definer");
    let views = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                 where n.nspname = any (array['identity','billing','messaging','escalation','integrations','public'])
                   and (c.relkind = 'm' or c.relkind = 'v' and not coalesce(c.reloptions @> array['security_invoker=true'], false))";
    assert_eq!(
        test.count(views).await,
        0,
        "views run as their reader, and none is materialised"
    );
    let public = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public'";
    assert_eq!(
        test.count(public).await,
        0,
        "nothing lives outside the schemas"
    );
    let powers = "select count(*) from pg_roles where rolname like 'mainstay\\_%' and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)";
    assert_eq!(test.count(powers).await, 0);
    let logins = "select count(*) from pg_roles where rolname like 'mainstay\\_%\\_owner\\_%' and rolcanlogin";
    assert_eq!(test.count(logins).await, 0);
}

#[tokio::test]
async fn constraints_have_names_of_their_own() {
    let test = TestDatabase::new().await;
    // PostgreSQL numbers the names it has to make unique.
    let numbered = "select count(*) from pg_constraint c join pg_namespace n on n.oid = c.connamespace
                    where n.nspname = any (array['identity','billing','messaging','escalation','integrations'])
                      and c.conname ~ '_(check|fkey|key|excl)[0-9]+$' and c.conparentid = 0
                      and not exists (select from pg_class p where p.oid = c.conrelid and p.relispartition)";
    assert_eq!(test.count(numbered).await, 0);
}
