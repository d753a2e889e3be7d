//! Tenants are walls: what each kind of transaction can and cannot see and do, on one table of each class.

use mainstay_db::{
    Database, Error,
    migrate::{self, Migrations},
};
use mainstay_testkit::{TestDatabase, postgres};
use mainstay_types::{AgencyId, AgencyScope, ClientId, Tenant, Visible};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

const TABLES: &str = "
create table label (agency_id uuid not null, id uuid not null, text text not null,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  constraint label_pkey primary key (agency_id, id));
call agency_table('label');
create table note (agency_id uuid not null, tenant_id uuid not null, id uuid not null, text text not null, parent_id uuid,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  constraint note_pkey primary key (tenant_id, id),
  constraint note_parent_fkey foreign key (tenant_id, parent_id) references note (tenant_id, id));
call client_table('note');
create table entry (agency_id uuid not null, tenant_id uuid not null, id uuid not null,
  created_at timestamptz not null default now(), constraint entry_pkey primary key (tenant_id, id));
call client_table('entry');
call append_only('entry');
create table lookup (key_hash bytea not null, agency_id uuid not null, created_at timestamptz not null default now(),
  constraint lookup_pkey primary key (key_hash));
call directory_table('lookup');
create table machine (id uuid not null, agency_id uuid, tenant_id uuid, created_at timestamptz not null default now(),
  constraint machine_pkey primary key (id));
call operator_table('machine', 'insert, select');
";

/// A database with the tables above in billing's schema.
pub(crate) async fn billing() -> (TestDatabase, Database) {
    let test = TestDatabase::unmigrated().await;
    let core = postgres::migrations();
    let mut files: Vec<(String, String)> = core
        .of(migrate::Set::Core, "billing")
        .unwrap()
        .iter()
        .flat_map(|m| {
            [("up", &m.up), ("down", &m.down)].map(|(direction, text)| {
                (format!("_core/{}", m.file_name(direction)), text.clone())
            })
        })
        .collect();
    files.push(("billing/20260101000000_test.up.sql".into(), TABLES.into()));
    files.push((
        "billing/20260101000000_test.down.sql".into(),
        "select 1".into(),
    ));
    let migrations = Migrations::from_files(files).unwrap();
    migrate::up(&test.migrator_url("billing"), "billing", &migrations, false)
        .await
        .unwrap();
    let database = test.database("billing").await;
    (test, database)
}

fn tenant() -> Tenant {
    Tenant {
        agency: AgencyId::generate(),
        client: ClientId::generate(),
    }
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}")))
        .fetch_one(connection)
        .await
        .unwrap()
}

async fn insert_note(connection: &mut PgConnection, t: Tenant, id: Uuid) -> Result<(), Error> {
    sqlx::query("insert into note (agency_id, tenant_id, id, text) values ($1, $2, $3, 'x')")
        .bind(t.agency.uuid())
        .bind(t.client.uuid())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

async fn committed_note(database: &Database, t: Tenant) -> Uuid {
    let id = Uuid::now_v7();
    let mut tx = database.tenant(t).await.unwrap();
    insert_note(tx.conn(), t, id).await.unwrap();
    tx.commit().await.unwrap();
    id
}

fn is_wall(error: &Error) -> bool {
    // insufficient_privilege: what row security says of a row that may not be written
    let Error::Other(source) = error else {
        return false;
    };
    source.as_database_error().and_then(|e| e.code()).as_deref() == Some("42501")
}

#[tokio::test]
async fn a_client_sees_and_changes_only_its_own_rows() {
    let (_test, database) = billing().await;
    let mine = tenant();
    let sibling = Tenant {
        client: ClientId::generate(),
        ..mine
    };
    let stranger = tenant();
    for t in [mine, sibling, stranger] {
        committed_note(&database, t).await;
    }
    let mut tx = database.tenant(mine).await.unwrap();
    assert_eq!(count(tx.conn(), "note").await, 1);
    for change in ["update note set text = 'y'", "delete from note"] {
        let done = sqlx::raw_sql(change).execute(tx.conn()).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{change}");
    }
    tx.commit().await.unwrap();
    for t in [sibling, stranger] {
        let mut tx = database.tenant(t).await.unwrap();
        assert_eq!(count(tx.conn(), "note where text = 'x'").await, 1);
    }
}

#[tokio::test]
async fn nobody_writes_a_row_in_another_name() {
    let (_test, database) = billing().await;
    let mine = tenant();
    let sibling = Tenant {
        client: ClientId::generate(),
        ..mine
    };
    let mixed = Tenant {
        agency: tenant().agency,
        ..mine
    };
    for other in [sibling, mixed, tenant()] {
        let mut tx = database.tenant(mine).await.unwrap();
        let refused = insert_note(tx.conn(), other, Uuid::now_v7())
            .await
            .unwrap_err();
        assert!(is_wall(&refused), "{refused:?}");
    }
    // nor moves one there
    let id = committed_note(&database, mine).await;
    let mut tx = database.tenant(mine).await.unwrap();
    let moved = sqlx::query("update note set tenant_id = $1 where id = $2")
        .bind(sibling.client.uuid())
        .bind(id)
        .execute(tx.conn())
        .await;
    assert!(is_wall(&moved.unwrap_err().into()));
}

#[tokio::test]
async fn a_foreign_key_cannot_point_at_another_clients_row() {
    let (_test, database) = billing().await;
    let (mine, other) = (tenant(), tenant());
    let theirs = committed_note(&database, other).await;
    let mut tx = database.tenant(mine).await.unwrap();
    let refused = sqlx::query(
        "insert into note (agency_id, tenant_id, id, text, parent_id) values ($1, $2, $3, 'x', $4)",
    )
    .bind(mine.agency.uuid())
    .bind(mine.client.uuid())
    .bind(Uuid::now_v7())
    .bind(theirs)
    .execute(tx.conn())
    .await;
    let error = Error::from(refused.unwrap_err());
    assert_eq!(error.constraint(), Some("note_parent_fkey"));
    assert!(!error.to_string().contains(&theirs.to_string()));
}

#[tokio::test]
async fn an_agency_reads_its_visible_clients_and_writes_none() {
    let (_test, database) = billing().await;
    let first = tenant();
    let second = Tenant {
        client: ClientId::generate(),
        ..first
    };
    for t in [first, second, tenant()] {
        committed_note(&database, t).await;
    }
    let seen = async |visible: Visible| {
        let scope = AgencyScope {
            agency: first.agency,
            visible,
        };
        let mut tx = database.agency(&scope).await.unwrap();
        count(tx.conn(), "note").await
    };
    assert_eq!(seen(Visible::All).await, 2);
    assert_eq!(seen(Visible::Only(vec![second.client])).await, 1);
    assert_eq!(seen(Visible::Only(vec![tenant().client])).await, 0);
    assert_eq!(seen(Visible::Only(vec![])).await, 0);

    let scope = AgencyScope {
        agency: first.agency,
        visible: Visible::All,
    };
    let mut tx = database.agency(&scope).await.unwrap();
    for change in ["update note set text = 'y'", "delete from note"] {
        let done = sqlx::raw_sql(change).execute(tx.conn()).await.unwrap();
        assert_eq!(done.rows_affected(), 0, "{change}");
    }
    let refused = insert_note(tx.conn(), first, Uuid::now_v7())
        .await
        .unwrap_err();
    assert!(is_wall(&refused));
}

#[tokio::test]
async fn agencies_are_walls_too() {
    let (_test, database) = billing().await;
    let (ours, theirs) = (tenant(), tenant());
    for agency in [ours.agency, theirs.agency] {
        let mut tx = database
            .agency(&AgencyScope {
                agency,
                visible: Visible::All,
            })
            .await
            .unwrap();
        sqlx::query("insert into label (agency_id, id, text) values ($1, $2, 'x')")
            .bind(agency.uuid())
            .bind(Uuid::now_v7())
            .execute(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    let mut tx = database.tenant(ours).await.unwrap();
    assert_eq!(
        count(tx.conn(), "label").await,
        1,
        "a client's transaction reads its agency's tables"
    );
    let foreign = sqlx::query("insert into label (agency_id, id, text) values ($1, $2, 'x')")
        .bind(theirs.agency.uuid())
        .bind(Uuid::now_v7())
        .execute(tx.conn())
        .await;
    assert!(is_wall(&foreign.unwrap_err().into()));
}

#[tokio::test]
async fn before_anyone_is_authenticated_only_directories_answer() {
    let (_test, database) = billing().await;
    let t = tenant();
    committed_note(&database, t).await;
    let mut tx = database.directory().await.unwrap();
    sqlx::query("insert into lookup (key_hash, agency_id) values ('\\x01', $1)")
        .bind(t.agency.uuid())
        .execute(tx.conn())
        .await
        .unwrap();
    assert_eq!(count(tx.conn(), "lookup").await, 1);
    assert_eq!(count(tx.conn(), "note").await, 0);
    assert_eq!(count(tx.conn(), "label").await, 0);
    assert_eq!(count(tx.conn(), "machine").await, 0);
}

#[tokio::test]
async fn the_machinery_sees_no_domain_row_without_a_name() {
    let (_test, database) = billing().await;
    let t = tenant();
    committed_note(&database, t).await;
    let worker = database.worker();
    let mut tx = worker.tx().await.unwrap();
    assert_eq!(count(tx.conn(), "note").await, 0);
    tx.commit().await.unwrap();
    let mut connection = worker.connection().await.unwrap();
    assert_eq!(count(connection.conn(), "note").await, 0);
    drop(connection);
    let mut tx = worker.tenant(t).await.unwrap();
    assert_eq!(count(tx.conn(), "note").await, 1);
}

#[tokio::test]
async fn an_operator_sees_the_machinerys_rows_of_his_agency_and_visible_clients() {
    let (_test, database) = billing().await;
    let t = tenant();
    let sibling = Tenant {
        client: ClientId::generate(),
        ..t
    };
    let mut tx = database.worker().tx().await.unwrap();
    let rows = [
        (None, None),
        (Some(t.agency), None),
        (Some(t.agency), Some(t.client)),
        (Some(t.agency), Some(sibling.client)),
        (Some(tenant().agency), None),
    ];
    for (agency, client) in rows {
        sqlx::query("insert into machine (id, agency_id, tenant_id) values ($1, $2, $3)")
            .bind(Uuid::now_v7())
            .bind(agency.map(|id: AgencyId| id.uuid()))
            .bind(client.map(|id: ClientId| id.uuid()))
            .execute(tx.conn())
            .await
            .unwrap();
    }
    assert_eq!(count(tx.conn(), "machine").await, 5);
    tx.commit().await.unwrap();

    let all = AgencyScope {
        agency: t.agency,
        visible: Visible::All,
    };
    let one = AgencyScope {
        agency: t.agency,
        visible: Visible::Only(vec![t.client]),
    };
    assert_eq!(
        count(database.agency(&all).await.unwrap().conn(), "machine").await,
        3
    );
    assert_eq!(
        count(database.agency(&one).await.unwrap().conn(), "machine").await,
        1
    );
    assert_eq!(
        count(database.tenant(t).await.unwrap().conn(), "machine").await,
        1
    );
    let mut tx = database.agency(&all).await.unwrap();
    let refused = sqlx::raw_sql("delete from machine")
        .execute(tx.conn())
        .await;
    assert!(is_wall(&refused.unwrap_err().into()));
}

#[tokio::test]
async fn an_append_only_table_is_never_changed() {
    let (_test, database) = billing().await;
    let t = tenant();
    for worker in [false, true] {
        let mut tx = if worker {
            database.worker().tenant(t).await.unwrap()
        } else {
            database.tenant(t).await.unwrap()
        };
        for change in ["update entry set id = id", "delete from entry"] {
            let refused = sqlx::raw_sql(AssertSqlSafe(format!("savepoint s; {change}")))
                .execute(tx.conn())
                .await;
            assert!(is_wall(&refused.unwrap_err().into()), "{change}");
            sqlx::raw_sql("rollback to s")
                .execute(tx.conn())
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn the_wall_keeps_the_index() {
    let (test, database) = billing().await;
    let t = tenant();
    committed_note(&database, t).await;
    test.execute(
        "insert into billing.note (agency_id, tenant_id, id, text)
         select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'x' from generate_series(1, 20000);
         analyze billing.note",
    )
    .await;
    let mut tx = database.tenant(t).await.unwrap();
    let plan: Vec<String> =
        sqlx::query_scalar("explain select text from note where tenant_id = $1 and id = $2")
            .bind(t.client.uuid())
            .bind(Uuid::now_v7())
            .fetch_all(tx.conn())
            .await
            .unwrap();
    let plan = plan.join("\n");
    assert!(
        plan.contains("note_pkey") && plan.contains("Index Cond"),
        "{plan}"
    );
}
