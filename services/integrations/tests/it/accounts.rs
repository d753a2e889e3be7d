//! Accounts at providers: their credentials go in and never come out, and rotate while everything runs.

use mainstay_proto::integrations::v1 as proto;
use mainstay_rpc::{ErrorReason, Problem, ServiceName};
use tonic::{Code, Request};

use crate::agency::{
    NEXT_TOKEN, TOKEN, World, account, credentials, faults, resend, sender, sendgrid, twilio,
    twilio_credentials,
};

fn rotation(
    account: &proto::ProviderAccount,
    token: &str,
    overlap: Option<i64>,
) -> proto::RotateProviderAccountRequest {
    proto::RotateProviderAccountRequest {
        account_id: account.id.clone().unwrap_or_default(),
        credentials: Some(twilio_credentials(token)),
        overlap_seconds: overlap,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_in_no_answer_and_in_no_row_in_clear() {
    let world = World::new().await;
    let agency = world.agency();
    let made = agency.add(twilio(TOKEN)).await;
    agency.add(resend()).await;
    agency.add(sendgrid()).await;
    let rotated = agency
        .accounts()
        .rotate_provider_account(rotation(&made, NEXT_TOKEN, None))
        .await
        .expect("rotated")
        .into_inner();
    assert_eq!(rotated.credentials_hint.as_deref(), Some("a1b3"));
    let listed = agency
        .accounts()
        .list_provider_accounts(proto::ListProviderAccountsRequest::default())
        .await
        .expect("listed")
        .into_inner();
    let shown = format!("{made:?} {rotated:?} {listed:?}");
    let dump = world.dump().await;
    assert!(dump.contains("provider_account"), "the dump has no rows");
    for secret in [
        TOKEN,
        NEXT_TOKEN,
        "AC5ef8732a3c49700934481addd5ce1659",
        "re_123456789abcdef",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "SG.123456789abcdef",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE",
    ] {
        let as_bytes: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        for text in [&shown, &dump] {
            assert!(
                !text.contains(secret) && !text.contains(&as_bytes),
                "{secret} is in {text}"
            );
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_holds_for_the_next_message_and_old_webhooks_verify_until_the_overlap_ends() {
    let world = World::new().await;
    let agency = world.agency();
    let made = agency.add(twilio(TOKEN)).await;
    let token = made.endpoint_token.clone().expect("Twilio sends webhooks");
    let sms = proto::SenderChannel::Sms;
    let request = sender(&made, sms, "+15125550199", None);
    agency.add_sender(request).await.expect("a sender");
    assert_eq!(world.verified_by("twilio", &token).await, [TOKEN]);
    assert_eq!(
        credentials(&agency.resolve("sms").await[0])["auth_token"],
        TOKEN
    );

    let rotated = agency
        .accounts()
        .rotate_provider_account(rotation(&made, NEXT_TOKEN, None))
        .await
        .expect("rotated")
        .into_inner();
    assert_eq!(rotated.credentials_revision, Some(2));
    assert!(rotated.overlap_ends_at.is_some());
    let sending = &agency.resolve("sms").await[0];
    assert_eq!(credentials(sending)["auth_token"], NEXT_TOKEN);
    assert_eq!(sending.revision, 2);
    assert_eq!(
        world.verified_by("twilio", &token).await,
        [NEXT_TOKEN, TOKEN]
    );
    // Neither does another provider's endpoint know the token, nor an account one that is made up.
    assert!(world.verified_by("resend", &token).await.is_empty());
    assert!(world.verified_by("twilio", "made-up").await.is_empty());

    let ended = agency
        .accounts()
        .update_provider_account(proto::UpdateProviderAccountRequest {
            account_id: made.id.clone().unwrap_or_default(),
            end_overlap: Some(true),
            ..Default::default()
        })
        .await
        .expect("ended")
        .into_inner();
    assert_eq!(ended.overlap_ends_at, None);
    assert_eq!(world.verified_by("twilio", &token).await, [NEXT_TOKEN]);

    // Without an overlap the old one ends at once.
    let at_once = rotation(&made, TOKEN, Some(0));
    let at_once = agency.accounts().rotate_provider_account(at_once).await;
    assert_eq!(at_once.expect("rotated").into_inner().overlap_ends_at, None);
    assert_eq!(world.verified_by("twilio", &token).await, [TOKEN]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_rotation_is_one_rotation() {
    let world = World::new().await;
    let agency = world.agency();
    let made = agency.add(twilio(TOKEN)).await;
    // A key belongs to whoever sent it.
    let mut accounts = agency.accounts();
    for _ in 0..2 {
        let mut request = Request::new(rotation(&made, NEXT_TOKEN, None));
        let key = "once".parse().expect("ASCII");
        request.metadata_mut().insert("idempotency-key", key);
        let rotated = accounts.rotate_provider_account(request).await;
        let rotated = rotated.expect("rotated").into_inner();
        assert_eq!(rotated.credentials_revision, Some(2));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_that_is_not_the_providers_is_named() {
    let world = World::new().await;
    let agency = world.agency();
    let wrong = proto::ProviderCredentials {
        account_sid: Some("AC12".to_owned()),
        webhook_secret: Some("whsec_x".to_owned()),
        ..Default::default()
    };
    let refused = agency
        .accounts()
        .create_provider_account(account(proto::Provider::Twilio, wrong.clone()))
        .await
        .expect_err("refused");
    let wanted = [
        "credentials.account_sid",
        "credentials.auth_token",
        "credentials.webhook_secret",
    ];
    assert_eq!(faults(&refused), wanted);
    let made = agency.add(twilio(TOKEN)).await;
    let refused = agency
        .accounts()
        .rotate_provider_account(proto::RotateProviderAccountRequest {
            credentials: Some(wrong),
            ..rotation(&made, TOKEN, None)
        })
        .await
        .expect_err("refused");
    assert_eq!(faults(&refused), wanted);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_of_a_provider_is_preferred_whoever_asks_at_once() {
    let world = World::new().await;
    let agency = world.agency();
    let adding = (0..8).map(|_| {
        let request = proto::CreateProviderAccountRequest {
            is_default: Some(true),
            ..twilio(TOKEN)
        };
        agency.add(request)
    });
    let made = futures_util::future::join_all(adding).await;
    let preferring = made.iter().map(|account| {
        let request = proto::UpdateProviderAccountRequest {
            account_id: account.id.clone().unwrap_or_default(),
            is_default: Some(true),
            ..Default::default()
        };
        let mut accounts = agency.accounts();
        async move { accounts.update_provider_account(request).await }
    });
    for preferred in futures_util::future::join_all(preferring).await {
        assert_eq!(
            preferred.expect("preferred").into_inner().is_default,
            Some(true)
        );
    }
    let database = world.stop().await;
    let count = "select count(*) from integrations.provider_account where is_default";
    assert_eq!(database.count(count).await, 1);
    let keys = "select count(*) from integrations.agency_data_key";
    assert_eq!(database.count(keys).await, 1, "one key an agency");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_deleted_when_no_sender_uses_it_and_then_verifies_nothing() {
    let world = World::new().await;
    let agency = world.agency();
    let made = agency.add(twilio(TOKEN)).await;
    let id = made.id.clone().unwrap_or_default();
    let token = made.endpoint_token.clone().unwrap_or_default();
    let sms = proto::SenderChannel::Sms;
    let added = sender(&made, sms, "+15125550199", Some(agency.client));
    let added = agency.add_sender(added).await.expect("a sender");
    let delete = async || {
        let request = proto::DeleteProviderAccountRequest {
            account_id: id.clone(),
        };
        agency.accounts().delete_provider_account(request).await
    };
    let refused = Problem::from_status(&delete().await.expect_err("in use"));
    assert_eq!(refused.reason(), ErrorReason::ProviderAccountInUse);
    agency
        .senders()
        .delete_sender(proto::DeleteSenderRequest {
            sender_id: added.id.unwrap_or_default(),
        })
        .await
        .expect("deleted");
    delete().await.expect("deleted");
    assert_eq!(delete().await.expect_err("gone").code(), Code::NotFound);
    assert!(world.verified_by("twilio", &token).await.is_empty());
    let again = sender(&made, sms, "+15125550198", None);
    let refused = agency.add_sender(again).await.expect_err("no account");
    assert_eq!(faults(&refused), ["account_id"]);
    let database = world.stop().await;
    let recorded =
        "select count(*) from integrations.audit_outbox where action like 'integrations.%.delete'";
    assert_eq!(database.count(recorded).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_their_agencys_and_their_secrets_are_messagings_and_the_gateways() {
    let world = World::new().await;
    let (here, there) = (world.agency(), world.agency());
    let made = here.add(twilio(TOKEN)).await;
    let id = made.id.clone().unwrap_or_default();
    let foreign = there
        .accounts()
        .get_provider_account(proto::GetProviderAccountRequest {
            account_id: id.clone(),
        })
        .await
        .expect_err("another agency's");
    assert_eq!(foreign.code(), Code::NotFound);
    let foreign = there
        .accounts()
        .rotate_provider_account(rotation(&made, NEXT_TOKEN, None))
        .await
        .expect_err("another agency's");
    assert_eq!(foreign.code(), Code::NotFound);
    let sms = proto::SenderChannel::Sms;
    let foreign = there
        .add_sender(sender(&made, sms, "+15125550199", None))
        .await;
    assert_eq!(
        faults(&foreign.expect_err("no account of theirs")),
        ["account_id"]
    );
    for caller in [ServiceName::Gateway, ServiceName::Billing] {
        let asked = world
            .directory(caller)
            .resolve_senders(proto::ResolveSendersRequest::default())
            .await;
        assert_eq!(
            asked.expect_err("not theirs").code(),
            Code::PermissionDenied
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_read_an_older_account_changes_nothing() {
    let world = World::new().await;
    let agency = world.agency();
    let made = agency.add(twilio(TOKEN)).await;
    let rename = |etag: Option<String>, name: &str| proto::UpdateProviderAccountRequest {
        account_id: made.id.clone().unwrap_or_default(),
        name: Some(name.to_owned()),
        etag,
        ..Default::default()
    };
    let mut accounts = agency.accounts();
    let renamed = accounts
        .update_provider_account(rename(made.etag.clone(), "Second"))
        .await;
    assert_eq!(
        renamed.expect("renamed").into_inner().name.as_deref(),
        Some("Second")
    );
    let late = accounts
        .update_provider_account(rename(made.etag.clone(), "Third"))
        .await
        .expect_err("changed since");
    let reason = Problem::from_status(&late).reason();
    assert_eq!(reason, ErrorReason::EtagMismatch);
    world.stop().await;
}
