//! Master keys: replaced while everything runs, and missed at the start rather than by the first message.

use mainstay_proto::integrations::v1 as proto;

use crate::agency::{TOKEN, World, credentials, sender, twilio};
use crate::stage::MASTER_KEY;

const NEXT: &str = "2027:0d4c8a52f9635c1a60b2f7d84e93a1c05b7e2d9f4836b0e7c4d15a8f29637be0";
const NUMBER: &str = "+15125550199";

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_key_takes_over_while_credentials_stay_as_they_are() {
    let world = World::new().await;
    let agency = world.agency();
    let (id, client) = (agency.id, agency.client);
    let made = agency.add(twilio(TOKEN)).await;
    let own = sender(&made, proto::SenderChannel::Sms, NUMBER, None);
    agency.add_sender(own).await.expect("a sender");
    let database = world.stop().await;

    // The old one alone is missed by its name, and nothing serves.
    let world = World::on(database, NEXT).await;
    let refusal = world.serving_refused().await;
    assert!(refusal.0.contains("2026"), "{}", refusal.0);

    // Both: the first one takes over. It is looked once a minute; the minute has passed.
    let looks = "update integrations.job set run_at = now() where kind = 'rewrap_data_keys'";
    refusal.1.execute(looks).await;
    let world = World::on(refusal.1, &format!("{NEXT},{MASTER_KEY}")).await;
    let taken_over =
        "select count(*) from integrations.agency_data_key where master_key_id = '2027'";
    world.until(1, taken_over).await;
    let database = world.stop().await;

    // The old one is not needed any more.
    let world = World::on(database, NEXT).await;
    let agency = crate::agency::Agency {
        world: &world,
        id,
        client,
    };
    let sending = agency.resolve("sms").await;
    assert_eq!(credentials(&sending[0])["auth_token"], TOKEN);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_opens_in_its_own_row_only() {
    let world = World::new().await;
    let (here, there) = (world.agency(), world.agency());
    let ours = here.add(twilio(TOKEN)).await;
    let theirs = there.add(twilio(TOKEN)).await;
    let token = theirs.endpoint_token.clone().unwrap_or_default();
    assert_eq!(world.verified_by("twilio", &token).await, [TOKEN]);
    // Somebody with the database puts our agency's sealed text, key and all, into theirs.
    world
        .postgres
        .execute(&format!(
            "update integrations.agency_data_key set sealed = (select sealed from integrations.agency_data_key where agency_id = '{0}')
             where agency_id = '{1}'",
            here.id.uuid(),
            there.id.uuid()
        ))
        .await;
    let asked = proto::ListVerificationSecretsRequest {
        provider: "twilio".to_owned(),
        endpoint_token: token,
    };
    let refused = world.intake().list_verification_secrets(asked).await;
    let refused = refused.expect_err("it does not open");
    assert_eq!(refused.code(), tonic::Code::Internal);
    let token = ours.endpoint_token.unwrap_or_default();
    assert_eq!(world.verified_by("twilio", &token).await, [TOKEN]);
    world.stop().await;
}
