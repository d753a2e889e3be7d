//! Senders: one receiver an address, and the order in which a client's message tries them.

use futures_util::future::join_all;
use mainstay_proto::errors::v1::ObjectExists;
use mainstay_proto::integrations::v1 as proto;
use mainstay_rpc::{ErrorReason, Problem, ServiceName};
use mainstay_types::ClientId;
use tonic::Code;

use crate::agency::{NEXT_TOKEN, TOKEN, World, faults, resend, sender, sendgrid, stranger, twilio};

const NUMBER: &str = "+15125550199";

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_registrations_of_one_address_at_once_one_stands_and_the_others_are_told_which() {
    let world = World::new().await;
    let agency = world.agency();
    let made = agency.add(twilio(TOKEN)).await;
    let sms = proto::SenderChannel::Sms;
    let racing = (0..10).map(|_| agency.add_sender(sender(&made, sms, NUMBER, None)));
    let (won, lost): (Vec<_>, Vec<_>) = join_all(racing).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 9));
    let won = won.into_iter().flatten().next().expect("one");
    for lost in lost {
        let problem = Problem::from_status(&lost.expect_err("refused"));
        assert_eq!(problem.reason(), ErrorReason::SenderAddressTaken);
        let told = problem.data_as::<ObjectExists>().expect("which");
        assert_eq!(told.existing_id, won.id);
    }
    // The same number may ring, and another agency has numbers of its own.
    let voice = sender(&made, proto::SenderChannel::Voice, NUMBER, None);
    agency.add_sender(voice).await.expect("another channel");
    let there = world.agency();
    let theirs = there.add(twilio(NEXT_TOKEN)).await;
    let theirs = there.add_sender(sender(&theirs, sms, NUMBER, None)).await;
    theirs.expect("another agency");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_free_again_when_its_sender_is_disabled_and_not_before() {
    let world = World::new().await;
    let agency = world.agency();
    let made = agency.add(resend()).await;
    let email = proto::SenderChannel::Email;
    let first = sender(&made, email, "Acme <hello@acme.test>", None);
    let first = agency.add_sender(first).await.expect("a sender");
    assert_eq!(first.rate_per_second, Some(10.0));
    let second = || sender(&made, email, "HELLO@acme.test", None);
    let taken = agency.add_sender(second()).await.expect_err("taken");
    let taken = Problem::from_status(&taken).reason();
    assert_eq!(taken, ErrorReason::SenderAddressTaken);
    let switch = |sender: &proto::Sender, state: proto::SenderState| proto::UpdateSenderRequest {
        sender_id: sender.id.clone().unwrap_or_default(),
        state: Some(state.into()),
        ..Default::default()
    };
    let mut senders = agency.senders();
    let disabled = switch(&first, proto::SenderState::Disabled);
    senders.update_sender(disabled).await.expect("disabled");
    agency.add_sender(second()).await.expect("free again");
    let back = switch(&first, proto::SenderState::Active);
    let taken = senders.update_sender(back).await.expect_err("taken");
    let taken = Problem::from_status(&taken).reason();
    assert_eq!(taken, ErrorReason::SenderAddressTaken);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_sender_comes_before_the_agencys_and_resend_before_sendgrid() {
    let world = World::new().await;
    let agency = world.agency();
    let sendgrid = agency.add(sendgrid()).await;
    let resend = agency.add(resend()).await;
    let email = proto::SenderChannel::Email;
    for (account, address, client) in [
        (&sendgrid, "a@agency.test", None),
        (&resend, "b@agency.test", None),
        (&sendgrid, "c@acme.test", Some(agency.client)),
        (&resend, "d@acme.test", Some(agency.client)),
        (&resend, "e@other.test", Some(ClientId::generate())),
    ] {
        let request = sender(account, email, address, client);
        agency.add_sender(request).await.expect("a sender");
    }
    let order = |found: Vec<proto::SendingAccount>| -> Vec<String> {
        found.into_iter().map(|sending| sending.address).collect()
    };
    assert_eq!(
        order(agency.resolve("email").await),
        [
            "d@acme.test",
            "c@acme.test",
            "b@agency.test",
            "a@agency.test"
        ]
    );
    assert!(agency.resolve("sms").await.is_empty());
    // Nothing leaves through an account that is disabled.
    let disable = proto::UpdateProviderAccountRequest {
        account_id: resend.id.clone().unwrap_or_default(),
        state: Some(proto::ProviderAccountState::Disabled.into()),
        ..Default::default()
    };
    let mut accounts = agency.accounts();
    accounts
        .update_provider_account(disable)
        .await
        .expect("disabled");
    assert_eq!(
        order(agency.resolve("email").await),
        ["c@acme.test", "a@agency.test"]
    );
    // From one address alone, and never from another client's.
    for (address, wanted) in [
        ("Agency <A@agency.test>", vec!["a@agency.test"]),
        ("e@other.test", Vec::new()),
        ("nonsense", Vec::new()),
    ] {
        let request = proto::ResolveSendersRequest {
            agency_id: agency.id.to_string(),
            client_id: agency.client.to_string(),
            channel: "email".to_owned(),
            sender_address: Some(address.to_owned()),
        };
        let mut directory = world.directory(ServiceName::Messaging);
        let found = directory.resolve_senders(request).await;
        let found = found.expect("an answer").into_inner().accounts;
        assert_eq!(order(found), wanted, "{address}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_number_was_written_to_is_found_by_account_and_address() {
    let world = World::new().await;
    let agency = world.agency();
    let made = agency.add(twilio(TOKEN)).await;
    let sms = proto::SenderChannel::Sms;
    let own = sender(&made, sms, NUMBER, Some(agency.client));
    let own = agency.add_sender(own).await.expect("a sender");
    let disabled = proto::UpdateSenderRequest {
        sender_id: own.id.clone().unwrap_or_default(),
        state: Some(proto::SenderState::Disabled.into()),
        ..Default::default()
    };
    // A STOP must be heard also when nothing leaves any more.
    let mut senders = agency.senders();
    senders.update_sender(disabled).await.expect("disabled");
    let find = async |address: &str| {
        let request = proto::FindReceiverRequest {
            account_id: made.id.clone().unwrap_or_default(),
            address: address.to_owned(),
        };
        let mut directory = world.directory(ServiceName::Messaging);
        directory.find_receiver(request).await
    };
    let found = find(NUMBER).await.expect("found").into_inner();
    assert_eq!(found.agency_id, agency.id.to_string());
    assert_eq!(found.client_id, Some(agency.client.to_string()));
    assert_eq!(Some(found.sender_id), own.id);
    for unknown in ["+15125550100", "nonsense"] {
        let refused = find(unknown).await.expect_err("nobody's");
        assert_eq!(refused.code(), Code::NotFound, "{unknown}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_sender_that_cannot_be_kept_is_named() {
    let world = World::new().await;
    let agency = world.agency();
    let made = agency.add(twilio(TOKEN)).await;
    let mut wrong = sender(&made, proto::SenderChannel::Sms, "5125550199", None);
    wrong.rate_per_second = Some(0.0);
    let refused = agency.add_sender(wrong).await.expect_err("refused");
    assert_eq!(faults(&refused), ["address", "rate_per_second"]);
    let email = proto::SenderChannel::Email;
    let refused = agency
        .add_sender(sender(&made, email, "a@acme.test", None))
        .await;
    assert_eq!(
        faults(&refused.expect_err("Twilio carries no mail")),
        ["account_id"]
    );
    let own = sender(&made, proto::SenderChannel::Sms, NUMBER, None);
    let own = agency.add_sender(own).await.expect("a sender");
    let id = own.id.unwrap_or_default();
    let both = proto::UpdateSenderRequest {
        sender_id: id.clone(),
        client_id: Some(agency.client.to_string()),
        for_agency: Some(true),
        ..Default::default()
    };
    let refused = agency.senders().update_sender(both).await;
    assert_eq!(
        faults(&refused.expect_err("one or the other")),
        ["for_agency"]
    );
    // Another agency's client is none.
    let theirs = sender(
        &made,
        proto::SenderChannel::Sms,
        "+15125550198",
        Some(stranger()),
    );
    let refused = agency.add_sender(theirs).await;
    assert_eq!(
        faults(&refused.expect_err("no client of theirs")),
        ["client_id"]
    );
    let theirs = proto::UpdateSenderRequest {
        sender_id: id,
        client_id: Some(stranger().to_string()),
        ..Default::default()
    };
    let refused = agency.senders().update_sender(theirs).await;
    assert_eq!(
        faults(&refused.expect_err("no client of theirs")),
        ["client_id"]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_put_through_where_a_number_says_until_it_says_otherwise() {
    let world = World::new().await;
    let agency = world.agency();
    let made = agency.add(twilio(TOKEN)).await;
    let token = made.endpoint_token.clone().unwrap_or_default();
    let (sms, there) = (proto::SenderChannel::Sms, "+15125550142");
    let forwards = async || {
        let asked = proto::ListVerificationSecretsRequest {
            provider: "twilio".to_owned(),
            endpoint_token: token.clone(),
        };
        let told = world.intake().list_verification_secrets(asked).await;
        told.expect("known").into_inner().call_forwards
    };
    let silent = sender(&made, sms, "+15125550198", None);
    agency.add_sender(silent).await.expect("a sender");
    assert!(forwards().await.is_empty());
    let own = proto::CreateSenderRequest {
        forward_calls_to: Some(there.to_owned()),
        ..sender(&made, sms, NUMBER, None)
    };
    let own = agency.add_sender(own).await.expect("a sender");
    assert_eq!(own.forward_calls_to.as_deref(), Some(there));
    assert_eq!(
        forwards().await.get(NUMBER).map(String::as_str),
        Some(there)
    );
    // The number also has a sender for calls; what that says comes first.
    let voice = proto::CreateSenderRequest {
        forward_calls_to: Some("+15125550143".to_owned()),
        ..sender(&made, proto::SenderChannel::Voice, NUMBER, None)
    };
    agency.add_sender(voice).await.expect("another channel");
    let told = forwards().await;
    assert_eq!((told.len(), told[NUMBER].as_str()), (1, "+15125550143"));

    let change = |away: Option<bool>, to: Option<&str>| proto::UpdateSenderRequest {
        sender_id: own.id.clone().unwrap_or_default(),
        forward_calls_to: to.map(str::to_owned),
        turn_calls_away: away,
        ..Default::default()
    };
    let mut senders = agency.senders();
    for (away, to, field) in [
        (None, Some(NUMBER), "forward_calls_to"),
        (Some(true), Some(there), "turn_calls_away"),
    ] {
        let refused = senders.update_sender(change(away, to)).await;
        assert_eq!(faults(&refused.expect_err("refused")), [field]);
    }
    let changed = senders.update_sender(change(Some(true), None)).await;
    let changed = changed.expect("changed").into_inner();
    assert_eq!(changed.forward_calls_to, None);
    let mailbox = agency.add(resend()).await;
    let mail = proto::CreateSenderRequest {
        forward_calls_to: Some(there.to_owned()),
        ..sender(&mailbox, proto::SenderChannel::Email, "a@acme.test", None)
    };
    let refused = agency.add_sender(mail).await.expect_err("a mail address");
    assert_eq!(faults(&refused), ["forward_calls_to"]);
    world.stop().await;
}
