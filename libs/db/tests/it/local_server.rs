//! The private server through what happens to it: first start, kill -9, a directory it cannot reach, two at once.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use mainstay_db::local::{LocalError, LocalOptions, LocalPostgres};
use sqlx::{Connection, PgConnection};

/// A directory of this test, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let dir = root.join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn connect(server: &LocalPostgres) -> PgConnection {
    PgConnection::connect(&server.admin_url("postgres"))
        .await
        .unwrap()
}

fn postmaster(server: &LocalPostgres) -> String {
    let text = fs::read_to_string(server.location().join("pgdata/postmaster.pid")).unwrap();
    text.lines().next().unwrap().to_owned()
}

fn kill_9(pid: &str) {
    assert!(
        Command::new("kill")
            .args(["-9", pid])
            .status()
            .unwrap()
            .success()
    );
    // Gone when /proc says so: a zombie has no working directory.
    while fs::read_link(format!("/proc/{pid}/cwd")).is_ok() {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn it_starts_stops_and_survives_kill_9_with_what_was_committed() {
    let scratch = Scratch::new("killed");
    let options = LocalOptions::new(&scratch.0);
    let server = LocalPostgres::start(&options).await.unwrap();
    sqlx::raw_sql("create table kept (id int); insert into kept values (1)")
        .execute(&mut connect(&server).await)
        .await
        .unwrap();
    kill_9(&postmaster(&server));
    let (port, secret) = (server.port(), server.secret().to_owned());
    drop(server);

    let server = LocalPostgres::start(&options).await.unwrap();
    assert_eq!(server.secret(), secret);
    assert_eq!(server.port(), port, "the port is kept while it is free");
    let kept: i32 = sqlx::query_scalar("select id from kept")
        .fetch_one(&mut connect(&server).await)
        .await
        .unwrap();
    assert_eq!(kept, 1);

    // A mainstay that was killed leaves its server running: the next one takes it over.
    let pid = postmaster(&server);
    drop(server);
    let server = LocalPostgres::start(&options).await.unwrap();
    assert_eq!(postmaster(&server), pid);
    server.stop().await.unwrap();
    assert!(
        PgConnection::connect(&server.admin_url("postgres"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_process_id_left_behind_that_is_now_someone_elses_does_not_matter() {
    let scratch = Scratch::new("stale");
    let options = LocalOptions::new(&scratch.0);
    let server = LocalPostgres::start(&options).await.unwrap();
    let file = server.location().join("pgdata/postmaster.pid");
    let text = fs::read_to_string(&file).unwrap();
    server.stop().await.unwrap();
    drop(server);
    // As after a restart of the machine: the number is taken, by us.
    let (_, rest) = text.split_once('\n').unwrap();
    fs::write(&file, format!("{}\n{rest}", std::process::id())).unwrap();
    let server = LocalPostgres::start(&options).await.unwrap();
    connect(&server).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_initdb_that_was_killed_is_begun_again() {
    let scratch = Scratch::new("halfway");
    fs::create_dir_all(scratch.0.join("postgres/pgdata.unfinished/base")).unwrap();
    fs::write(scratch.0.join("postgres/password.once"), "old").unwrap();
    fs::write(scratch.0.join("postgres/secret"), "half").unwrap();
    let server = LocalPostgres::start(&LocalOptions::new(&scratch.0))
        .await
        .unwrap();
    connect(&server).await;
    assert!(!server.location().join("password.once").exists());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn one_directory_has_one_master_and_two_directories_two() {
    let (first, second) = (Scratch::new("first"), Scratch::new("second"));
    let one = LocalPostgres::start(&LocalOptions::new(&first.0))
        .await
        .unwrap();
    let refused = LocalPostgres::start(&LocalOptions::new(&first.0))
        .await
        .unwrap_err();
    assert!(matches!(refused, LocalError::InUse(_)), "{refused}");
    let two = LocalPostgres::start(&LocalOptions::new(&second.0))
        .await
        .unwrap();
    assert_ne!(one.port(), two.port());
    assert_ne!(one.secret(), two.secret());
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn its_secret_is_private_and_its_password_is_needed() {
    let scratch = Scratch::new("secret");
    let server = LocalPostgres::start(&LocalOptions::new(&scratch.0))
        .await
        .unwrap();
    let mode = fs::metadata(server.location().join("secret"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0);
    let wrong = server
        .admin_url("postgres")
        .replace(server.secret(), "guess");
    assert!(PgConnection::connect(&wrong).await.is_err());
    let data = fs::metadata(server.location().join("pgdata"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(data & 0o077, 0);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_the_servers_user_cannot_reach_is_left_and_said_so() {
    let scratch = Scratch::new("unreachable");
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
    let options = LocalOptions::new(scratch.0.join("data"));
    let server = LocalPostgres::start(&options).await.unwrap();
    connect(&server).await;
    let outside = !server
        .location()
        .starts_with(scratch.0.canonicalize().unwrap());
    // An ordinary user is the server's user, and reaches its own directories.
    assert_eq!(outside, !server.notices().is_empty());
    server.stop().await.unwrap();
    if outside {
        let location = server.location().to_owned();
        assert!(location.starts_with("/var/lib/mainstay"));
        drop(server);
        let again = LocalPostgres::start(&options).await.unwrap();
        assert_eq!(again.location(), location, "it is found again");
        again.stop().await.unwrap();
        drop(again);
        // Whoever takes the directory away and starts anew gets an empty database, not what was there before.
        fs::remove_dir_all(&options.data_dir).unwrap();
        let anew = LocalPostgres::start(&options).await.unwrap();
        assert_ne!(anew.location(), location);
        anew.stop().await.unwrap();
        fs::remove_dir_all(anew.location()).unwrap();
        fs::remove_dir_all(location).unwrap();
    }
}

#[tokio::test]
async fn a_missing_postgresql_says_how_to_get_it() {
    let scratch = Scratch::new("missing");
    let options = LocalOptions {
        bin_dir: Some(scratch.0.clone()),
        ..LocalOptions::new(&scratch.0)
    };
    let error = LocalPostgres::start(&options).await.unwrap_err();
    assert!(
        error.to_string().contains("apt-get install postgresql"),
        "{error}"
    );
}
