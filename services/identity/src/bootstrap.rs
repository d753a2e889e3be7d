//! Makes an agency with its owner and a key to begin with, from inside: `mainstay up` calls it, and whoever installs.
//! Deliberately absent: an RPC. Nobody on the network makes agencies.

use mainstay_db::Error as DatabaseError;
use mainstay_jobs::record::{self, By, Change};
use mainstay_types::{AgencyId, AgencyScope, ApiKeyId, MemberId, PersonId, ServiceName, Visible};

use crate::api_key::{self, NewKey, secret::Secret};
use crate::keys::Purpose;
use crate::member::{self, NewMember, Post};
use crate::role::{BuiltIn, Role};
use crate::{Identity, agency};

/// What the owner's key is called; one of this name is live at a time.
const KEY_NAME: &str = "owner's first key";

/// The agency that should exist.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Names it for machines; the same slug is the same agency.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// What its owner is called.
    pub owner_name: String,
    /// Where its owner is written to.
    pub owner_email: String,
}

/// The agency that exists now.
#[derive(Debug)]
pub struct Ensured {
    /// Its id.
    pub agency: AgencyId,
    /// Its owner.
    pub owner: MemberId,
    /// The person behind.
    pub person: PersonId,
    /// The owner's key.
    pub api_key: ApiKeyId,
    /// Its secret, when it was made now.
    pub secret: Option<String>,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The slug is no slug.
    #[error("the slug must have lower case letters, digits and _, a letter first")]
    Slug,
    /// The owner could not be made.
    #[error(transparent)]
    Owner(#[from] member::Error),
    /// The key could not be made.
    #[error(transparent)]
    Key(#[from] api_key::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// The agency of this slug, when there is one: for whoever must not end the key of a working one.
///
/// # Errors
/// The database's.
pub async fn find_agency(identity: &Identity, slug: &str) -> Result<Option<AgencyId>, Error> {
    let mut directory = identity.database.directory().await?;
    let hash = identity.lookup.hash(Purpose::AgencySlug, slug);
    Ok(agency::find_slug(directory.conn(), &hash).await?)
}

/// Makes what is missing of the agency, its owner and the owner's key; run again, it changes nothing.
///
/// `known_secret` is the key as the caller kept it. When it still opens this agency it stays; when there is none, or it
/// opens nothing, the owner gets a new key and the lost one is revoked.
///
/// # Errors
/// The database's, and whatever is wrong with what is wanted.
pub async fn ensure_agency(
    identity: &Identity,
    wanted: &Wanted,
    known_secret: Option<&str>,
) -> Result<Ensured, Error> {
    if !mainstay_types::format::is_slug(&wanted.slug) {
        return Err(Error::Slug);
    }
    let now = identity.clock.now();
    // First the name, by itself: of two that start at once, both go on with the same agency.
    let mut directory = identity.database.directory().await?;
    let hash = identity.lookup.hash(Purpose::AgencySlug, &wanted.slug);
    let agency = agency::insert_slug(directory.conn(), &hash, AgencyId::generate()).await?;
    directory.commit().await?;

    let scope = AgencyScope {
        agency,
        visible: Visible::All,
    };
    let by = By::itself(ServiceName::Identity, agency, now);
    let mut tx = identity.database.agency(&scope).await?;
    if agency::insert(tx.conn(), agency, &wanted.slug, &wanted.name, now).await? {
        let change = Change {
            action: "identity.agency.create",
            event: "identity.agency.created",
            noun: "agency",
            target: agency.to_string(),
            client: None,
            sequence: 1,
            before: None,
            after: serde_json::json!({ "id": agency, "slug": wanted.slug, "name": wanted.name }),
        };
        record::write(tx.conn(), &by, change).await?;
    }
    // The other one's owner and key are seen after this.
    agency::lock(tx.conn(), agency).await?;
    let owner = match owner_of(tx.conn(), identity, agency, &wanted.owner_email).await? {
        Some(owner) => owner,
        None => {
            let new = NewMember {
                name: wanted.owner_name.clone(),
                email: wanted.owner_email.clone(),
                phone: None,
                post: Post {
                    role: BuiltIn::Owner.name().to_owned(),
                    reach: Visible::All,
                },
            };
            let role = Role::from(BuiltIn::Owner);
            let owner = member::insert(tx.conn(), identity, agency, &new, &role, now).await?;
            member::note(
                tx.conn(),
                &by,
                "identity.member.create",
                "identity.member.created",
                None,
                &owner,
            )
            .await?;
            owner
        }
    };
    let live = api_key::sql::live_of_member(tx.conn(), agency, owner.id, KEY_NAME).await?;
    let kept = match known_secret.and_then(Secret::parse) {
        None => None,
        Some(secret) => {
            let hash = identity.lookup.hash(Purpose::ApiKey, secret.expose());
            let found = api_key::sql::find_secret(tx.conn(), &hash).await?;
            found.filter(|found| {
                found.agency_id == agency && found.valid_until.is_none_or(|until| until > now)
            })
        }
    };
    let kept = kept
        .map(|found| found.api_key_id)
        .filter(|id| live.contains(id));
    let (api_key, secret) = match kept {
        Some(id) => (id, None),
        None => {
            // Nobody has their secrets any more, or nobody should.
            for lost in live {
                api_key::end(tx.conn(), agency, lost, &by).await?;
            }
            let new = NewKey {
                name: KEY_NAME.to_owned(),
                client: None,
                member: Some(owner.id),
                permissions: Vec::new(),
                expires_at: None,
            };
            let (key, secret) = api_key::insert(tx.conn(), identity, agency, &new, &by).await?;
            (key.id, Some(secret.expose().to_owned()))
        }
    };
    tx.commit().await?;
    Ok(Ensured {
        agency,
        owner: owner.id,
        person: owner.person_id,
        api_key,
        secret,
    })
}

async fn owner_of(
    conn: &mut sqlx::PgConnection,
    identity: &Identity,
    agency: AgencyId,
    email: &str,
) -> Result<Option<member::Member>, DatabaseError> {
    let hash = identity.lookup.email(email);
    let Some(id) = member::sql::find_by_person(conn, agency, &hash).await? else {
        return Ok(None);
    };
    member::sql::get(conn, agency, id).await
}
