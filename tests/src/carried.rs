//! Dispatchers killed with -9 while thousands of scheduled messages leave, over a Twilio that sometimes takes a message and
//! does not say so. Afterwards each message is there once, whatever died, and no doubt is left.
//! Deliberately absent: trust in our own rows. What left is counted at Twilio, by its text.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::process::Child;
use tokio::sync::{Mutex, Notify};

use crate::chaos::Chance;
use crate::platform::simulators;
use crate::rest::Patient;
use crate::{Platform, Starting, world};

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Whatever is left to chance follows from it.
    pub seed: u64,
    /// Messages to be scheduled.
    pub messages: u64,
    /// Processes to be killed while messages leave, at least.
    pub kills: u64,
    /// Processes that send.
    pub workers: usize,
    /// Messages a second that the number may send.
    pub rate: u32,
    /// Within how many seconds what is scheduled is due.
    pub spread_seconds: u64,
    /// The most milliseconds between two kills.
    pub pause_ms: u64,
}

/// Messages to each person, at most.
const TO_EACH: u64 = 4;
/// One kill in so many strikes the process that everything runs in, a dispatcher among it; the others a dispatcher alone.
const EVERY: u64 = 6;
/// How often that is started until it stands.
const STARTS: u32 = 5;
/// Requests at once.
const AT_ONCE: u64 = 16;

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Processes that were killed while messages left; of them the one that everything else runs in.
    pub kills: (u64, u64),
    /// Requests, and how many of them were repeats under the same key.
    pub requests: (u64, u64),
    /// Messages that were scheduled.
    pub messages: u64,
    /// People they went to.
    pub people: u64,
    /// Messages that Twilio does not have.
    pub lost: u64,
    /// Messages that Twilio has twice or more.
    pub twice: u64,
    /// Messages of which nobody knew, at some time, whether they had been taken.
    pub ambiguous: i64,
    /// Messages of which asking told what became of them, before a webhook did.
    pub asked: i64,
    /// What the doubts came from.
    pub causes: BTreeMap<String, i64>,
    /// How the doubts about tries ended.
    pub ends: BTreeMap<String, i64>,
    /// Tries.
    pub tries: i64,
    /// How the messages stand in the end.
    pub statuses: BTreeMap<String, i64>,
    /// What must not be, in words.
    pub wrong: Vec<String>,
    /// How long it took, from the first message scheduled to the last of which it is known what became of it.
    pub took: Duration,
}

struct Stage {
    platform: Mutex<Platform>,
    replicas: Mutex<Vec<Child>>,
    plan: Plan,
    over: Notify,
    kills: AtomicU64,
    whole: AtomicU64,
    patient: Patient,
    client: String,
}

/// Plays it through.
///
/// # Errors
/// When it cannot be played; what it finds wrong is in the report.
pub async fn run(name: &str, plan: Plan) -> anyhow::Result<Report> {
    ensure!(plan.workers > 1, "somebody has to go on");
    let (mut sandbox, sandbox_url) = simulators(name).await?;
    let stage = Stage::begin(name, plan, &sandbox_url).await?;
    let people = stage.people().await?;
    let silent = json!({"provider": "twilio", "operation": "messages.create", "kind": "timeout_after_effect", "value": 6, "rate": 0.05, "seed": plan.seed});
    stage
        .platform
        .lock()
        .await
        .sandbox_post("/_/faults", &silent)
        .await?;

    let began = Instant::now();
    let mut wrong = Vec::new();
    let leaving = async {
        let texts = stage.schedule(&people).await?;
        // As long as something has not left, processes are killed; what is in doubt then is looked for in peace.
        stage
            .until_none("status in ('scheduled', 'queued', 'sending')", &mut wrong)
            .await?;
        stage.over.notify_one();
        Ok(texts)
    };
    let (texts, ()) = tokio::try_join!(leaving, stage.kill_at_random())?;
    stage
        .until_none(
            "status in ('scheduled', 'queued', 'sending', 'ambiguous')",
            &mut wrong,
        )
        .await?;
    // Of some the webhooks were lost while nobody was there to take them, or wait to be handed on: their provider is asked.
    stage.until_none("status = 'sent'", &mut wrong).await?;
    let took = began.elapsed();

    let platform = stage.platform.into_inner();
    let mut report = Report {
        kills: (stage.kills.into_inner(), stage.whole.into_inner()),
        requests: stage.patient.told(),
        messages: plan.messages,
        people: people.len().try_into()?,
        wrong,
        took,
        ..Report::default()
    };
    if report.kills.0 < plan.kills {
        report.wrong.push(format!(
            "all had left when {} of {} were killed",
            report.kills.0, plan.kills
        ));
    }
    agree(&platform, &texts, &mut report).await?;
    sandbox.kill().await?;
    Ok(report)
}

impl Stage {
    /// The demo client with a plan that has no limit, a number that is fast, and as many dispatchers as are planned.
    async fn begin(name: &str, plan: Plan, sandbox_url: &str) -> anyhow::Result<Self> {
        // Quick about what waits in life.
        let env = [
            ("SANDBOX_URL", sandbox_url),
            ("MAINSTAY_TRACE_SAMPLE_RATIO", "0"),
            ("MAINSTAY_MESSAGING_PROVIDER_TIMEOUT_SECONDS", "2"),
            ("MAINSTAY_MESSAGING_LEASE_SECONDS", "5"),
            ("MAINSTAY_MESSAGING_PROBE_AFTER_SECONDS", "5"),
            ("MAINSTAY_MESSAGING_ASK_AFTER_SECONDS", "5"),
        ];
        let starting = Starting {
            env: env.map(|(name, value)| (name.into(), value.into())).into(),
            ..Starting::default()
        };
        let platform = Platform::start_with(name, starting).await?;
        let owner = platform.owner()?;
        let client = platform.dev_text("/clients/0/id")?.to_owned();
        let sold = json!({
            "name": format!("Without limits {name}"),
            "prices": [{"currency": "usd", "interval": "month", "amount_minor": 99700}],
            "entitlements": {"features": [], "limits": {"messages": {"beyond": "unlimited"}}},
        });
        let sold = owner.post("/v1/plans", &sold).await?.expect(201)?;
        world::subscribe(&owner, &client, &world::text(&sold, "id")?).await?;
        world::until("messages may be sent", async || {
            let path = format!("/v1/clients/{client}/limits");
            let limits = owner.get(&path).await?;
            let known = &limits.body["entitlements"]["limits"]["messages"];
            Ok((limits.status == 200 && !known.is_null()).then_some(()))
        })
        .await?;
        // The client's own: the house has a number as well.
        let query = format!("/v1/senders?client_id={client}&channel=sms");
        let senders = owner.get(&query).await?.expect(200)?;
        let number = senders["data"].as_array().and_then(|all| all.first());
        let path = format!(
            "/v1/senders/{}",
            world::text(number.context("a number")?, "id")?
        );
        let rate = json!({"rate_per_second": plan.rate});
        owner
            .send("PATCH", &path, Some(&rate), None)
            .await?
            .expect(200)?;
        let mut replicas = Vec::new();
        for _ in 1..plan.workers {
            replicas.push(platform.replica("messaging")?);
        }
        Ok(Stage {
            patient: Patient::new(owner),
            platform: Mutex::new(platform),
            replicas: Mutex::new(replicas),
            plan,
            over: Notify::new(),
            kills: AtomicU64::new(0),
            whole: AtomicU64::new(0),
            client,
        })
    }

    /// Does something for each number below `count`, several at once.
    async fn each<T>(
        &self,
        count: u64,
        act: impl AsyncFn(&Stage, u64) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        use futures_util::stream::{StreamExt as _, TryStreamExt as _};
        let acts = futures_util::stream::iter(0..count).map(|number| act(self, number));
        let at_once = usize::try_from(AT_ONCE)?;
        acts.buffered(at_once).try_collect().await
    }

    /// Those who are written to: awake now, and agreed to it.
    async fn people(&self) -> anyhow::Result<Vec<String>> {
        let zone = world::afternoon();
        let count = self.plan.messages.div_ceil(TO_EACH);
        self.each(count, async |stage, number| {
            let lead = json!({
                "name": format!("Lead {number}"), "phone": format!("+1512{:07}", 2_000_000 + number), "time_zone": zone,
                "consents": [{"channel": "sms", "basis": "express_written", "source": "form"}],
            });
            let path = format!("/v1/clients/{}/leads", stage.client);
            let key = format!("lead-{number}");
            let made = stage.patient.ask(&path, &lead, &key).await?.expect(201)?;
            world::text(&made, "id")
        })
        .await
    }

    /// Schedules them all, each with a text of its own; the texts.
    async fn schedule(&self, people: &[String]) -> anyhow::Result<Vec<String>> {
        let path = format!("/v1/clients/{}/messages", self.client);
        let plan = self.plan;
        self.each(plan.messages, async |stage, number| {
                let mut chance = Chance::new(plan.seed.wrapping_add(number.wrapping_mul(0x51_7c_c1)));
                let person = usize::try_from(number)? % people.len();
                let soon = 2 + chance.below(plan.spread_seconds.max(1));
                let send_at = mainstay_runtime::Clock::system(0).now()
                    + chrono::TimeDelta::seconds(soon.try_into()?);
                let text = format!("Reminder {number} of your appointment");
                let message = json!({
                    "lead_id": people[person], "channel": "sms", "body": text, "purpose": "transactional",
                    "send_at": send_at.to_rfc3339(),
                });
                let key = format!("message-{number}");
                loop {
                    let answer = stage.patient.ask(&path, &message, &key).await?;
                    // The gate could not look just now: asking again is what the answer says.
                    if answer.status != 409 || answer.body["reasons"] != json!(["check_unavailable"]) {
                        answer.expect(202)?;
                        return Ok(text);
                    }
                }
            })
            .await
    }

    async fn kill_at_random(&self) -> anyhow::Result<()> {
        let mut chance = Chance::new(self.plan.seed ^ 0xdead);
        let left = "select count(*) from messaging.message_attempt";
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        while self.platform.lock().await.count(left).await? == 0 {
            pace.tick().await;
        }
        loop {
            // A process lives long enough to have begun something.
            let longest = self.plan.pause_ms;
            let pause = Duration::from_millis(longest / 4 + chance.below(longest * 3 / 4));
            if tokio::time::timeout(pause, self.over.notified())
                .await
                .is_ok()
            {
                return Ok(());
            }
            if chance.below(EVERY) == 0 {
                let mut platform = self.platform.lock().await;
                platform.kill().await?;
                // Whoever supervises it starts it again until it stands.
                let mut last = platform.restart().await;
                for _ in 1..STARTS {
                    if last.is_ok() {
                        break;
                    }
                    last = platform.restart().await;
                }
                last?;
                self.patient.turn_to(platform.owner()?).await;
                self.whole.fetch_add(1, Ordering::Relaxed);
            } else {
                let mut replicas = self.replicas.lock().await;
                let which = usize::try_from(chance.below(replicas.len().try_into()?))?;
                replicas[which].kill().await?;
                replicas[which] = self.platform.lock().await.replica("messaging")?;
            }
            self.kills.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until no message stands so.
    async fn until_none(&self, so: &str, wrong: &mut Vec<String>) -> anyhow::Result<()> {
        let sql = format!("select count(*) from messaging.message where {so}");
        let limit = Instant::now() + Duration::from_secs(1800);
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        loop {
            pace.tick().await;
            let left = self.platform.lock().await.count(&sql).await?;
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > limit {
                wrong.push(format!("{left} messages are stuck: {so}"));
                return Ok(());
            }
        }
    }
}

/// Holds what Twilio has against what was scheduled, and what our rows say against both.
async fn agree(platform: &Platform, texts: &[String], report: &mut Report) -> anyhow::Result<()> {
    let ledger = platform.sandbox("/_/twilio/ledger").await?;
    let mut there: HashMap<&str, u64> = HashMap::new();
    for message in ledger["messages"].as_array().context("messages")? {
        let text = message["body"].as_str().unwrap_or_default();
        *there.entry(text).or_default() += 1;
    }
    for text in texts {
        match there.remove(text.as_str()) {
            None => report.lost += 1,
            Some(1) => {}
            Some(_) => report.twice += 1,
        }
    }
    let others = there.values().sum::<u64>();
    let mut wrong = vec![
        (report.lost, "messages are lost"),
        (report.twice, "messages left twice"),
        (others, "messages at Twilio are nobody's"),
    ];
    let mut none = async |what: &'static str, sql: &str| {
        let count = u64::try_from(platform.count(sql).await?)?;
        wrong.push((count, what));
        anyhow::Ok(())
    };
    none(
        "places are left in the queue",
        "select count(*) from messaging.send_queue",
    )
    .await?;
    none(
        "messages do not stand at what came of them",
        "select count(*) from messaging.message where status <> 'delivered'",
    )
    .await?;
    none(
        "tries were not permitted one by one",
        "select abs((select count(*) from messaging.message_attempt) - (select count(*) from messaging.send_permit))",
    )
    .await?;
    none(
        "messages were counted wrongly",
        "select abs((select count(*) from messaging.message) - (select sum(sent)::bigint from messaging.message_counter))",
    )
    .await?;
    let stored = platform
        .count("select count(*) from messaging.message")
        .await?;
    if u64::try_from(stored)? != report.messages {
        wrong.push((1, "the database has another number of messages"));
    }
    for (count, what) in wrong.into_iter().filter(|(count, _)| *count > 0) {
        report.wrong.push(format!("{count} {what}"));
    }
    report.tries = platform
        .count("select count(*) from messaging.message_attempt")
        .await?;
    report.ambiguous = platform
        .count("select count(distinct message_id) from messaging.message_event where status = 'ambiguous'")
        .await?;
    let causes = "select coalesce(detail, ''), count(*) from messaging.message_event where status = 'ambiguous' group by 1";
    report.asked = platform
        .count(
            "select count(*) from messaging.message_event where detail = 'the provider was asked'",
        )
        .await?;
    report.causes = counted(platform, causes).await?;
    // A try that was never in doubt has nothing to say about itself.
    let ends = "select state || case when detail = 'found at the provider' then ': found by asking'
                  when state = 'accepted' then ': told by a callback' else ': ' || detail end, count(*)
                from messaging.message_attempt where detail is not null group by 1";
    report.ends = counted(platform, ends).await?;
    let statuses = "select status, count(*) from messaging.message group by 1";
    report.statuses = counted(platform, statuses).await?;
    Ok(())
}

/// Counts by name.
async fn counted(platform: &Platform, sql: &str) -> anyhow::Result<BTreeMap<String, i64>> {
    let pairs = platform.pairs(sql).await?;
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, count)| Ok((name, count.parse().context("a count")?)))
        .collect()
}

/// A part of the whole, in percent.
pub fn percent(part: u64, whole: u64) -> String {
    let hundredths = (part * 10_000).div_ceil(whole.max(1));
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}
