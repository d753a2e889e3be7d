//! The migrations this binary was built with.
//! Deliberately absent: reading them from disk. A deployed binary and its schemas are of one version.

use mainstay_db::migrate::Migrations;

const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// All of them.
///
/// # Panics
/// When a file is misnamed: a mistake that a test finds.
pub fn all() -> Migrations {
    Migrations::from_files(FILES.iter().copied()).expect("the embedded migrations are in order")
}

#[cfg(test)]
mod tests {
    use mainstay_types::ServiceName;

    #[test]
    fn every_service_has_its_schema_embedded() {
        let migrations = super::all();
        let embedded: Vec<&str> = migrations.services().collect();
        for service in ServiceName::CONTEXTS {
            assert!(embedded.contains(&service.as_str()), "{service}");
        }
    }
}
