//! `BusinessHoursService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use std::collections::BTreeMap;

use chrono::{NaiveDate, Weekday};
use mainstay_db::page::PageRequest;
use mainstay_jobs::failure;
use mainstay_proto::escalation::v1::{
    self as proto, business_hours_service_server::BusinessHoursService,
};
use mainstay_rpc::{Violations, field, open};
use mainstay_types::ClientId;
use mainstay_types::format::parse_time_zone;
use tonic::{Request, Response, Status as Refused};

use super::rules::{self, Exception, Hours, Minute, Open};
use super::{Version, etag};
use crate::Escalating;

const TIME: &str = "must be a time of the day such as `09:00`";

#[tonic::async_trait]
impl BusinessHoursService for Escalating {
    async fn get_business_hours(
        &self,
        request: Request<proto::GetBusinessHoursRequest>,
    ) -> Result<Response<proto::BusinessHours>, Refused> {
        let (ctx, request) = open(request)?;
        let mut faults = Violations::new();
        let at = field::time_given("at", request.at.as_ref(), &mut faults);
        faults.finish()?;
        let tenant = ctx.tenant();
        let found = super::get(self, tenant, at).await?;
        Ok(Response::new(whole(tenant.client, &found)))
    }

    async fn put_business_hours(
        &self,
        request: Request<proto::PutBusinessHoursRequest>,
    ) -> Result<Response<proto::BusinessHours>, Refused> {
        let (ctx, request) = open(request)?;
        let wanted = request.etag.clone();
        let mut faults = Violations::new();
        let hours = hours(request, &mut faults);
        faults.finish()?;
        let Some(hours) = hours else {
            return Err(mainstay_rpc::Problem::invalid(Vec::new()).into());
        };
        let version = super::put(self, &ctx, hours, wanted).await?;
        Ok(Response::new(whole(ctx.tenant().client, &version)))
    }

    async fn list_business_hours(
        &self,
        request: Request<proto::ListBusinessHoursRequest>,
    ) -> Result<Response<proto::ListBusinessHoursResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let page: PageRequest<i64> = PageRequest::new(
            "escalation.business_hours",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(failure::page)?;
        let page = super::list(self, tenant, page).await?;
        let data = page.rows.iter().map(|row| whole(tenant.client, row));
        Ok(Response::new(proto::ListBusinessHoursResponse {
            data: data.collect(),
            next_page_token: page.next_page_token,
        }))
    }
}

fn hours(request: proto::PutBusinessHoursRequest, faults: &mut Violations) -> Option<Hours> {
    let zone = request.time_zone.as_deref().and_then(parse_time_zone);
    if zone.is_none() {
        faults.add("time_zone", "must be an IANA time zone");
    }
    let mut week = Vec::new();
    let mut by_day: BTreeMap<u32, Vec<(usize, Minute, Minute)>> = BTreeMap::new();
    for (at, given) in request.week.iter().enumerate() {
        let day = weekday(given.day);
        if day.is_none() {
            faults.add(format!("week[{at}].day"), "must be a day of the week");
        }
        let opens = minute(&format!("week[{at}].opens"), given.opens.as_deref(), faults);
        let closes = minute(
            &format!("week[{at}].closes"),
            given.closes.as_deref(),
            faults,
        );
        if let (Some(day), Some(opens), Some(closes)) = (day, opens, closes) {
            week.push(Open { day, opens, closes });
            let day = day.num_days_from_monday();
            by_day.entry(day).or_default().push((at, opens, closes));
        }
    }
    let meets = by_day.values().flat_map(|times| rules::faults(times));
    for (at, message) in meets {
        faults.add(format!("week[{at}]"), message);
    }
    let mut exceptions: Vec<Exception> = Vec::new();
    let mut by_date: BTreeMap<NaiveDate, Vec<(usize, Minute, Minute)>> = BTreeMap::new();
    for (at, given) in request.exceptions.into_iter().enumerate() {
        if let Some((exception, times)) = exception(at, given, faults) {
            let date = exception.date;
            let closed = exception.open.is_none();
            let known = exceptions
                .iter()
                .any(|other| other.date == date && (closed || other.open.is_none()));
            if known {
                faults.add(
                    format!("exceptions[{at}].date"),
                    "is named before, and one of the two is closed",
                );
            }
            by_date.entry(date).or_default().extend(times);
            exceptions.push(exception);
        }
    }
    let meets = by_date.values().flat_map(|times| rules::faults(times));
    for (at, message) in meets {
        faults.add(format!("exceptions[{at}]"), message);
    }
    let closed = request.always_closed.unwrap_or(false);
    if request.week.is_empty() && !closed {
        faults.add(
            "week",
            "is empty: say `always_closed` if nobody is ever there",
        );
    }
    if closed && !request.week.is_empty() {
        faults.add("always_closed", "is not so: `week` has hours");
    }
    week.sort_by_key(|open| (open.day.num_days_from_monday(), open.opens));
    exceptions.sort_by_key(|one| (one.date, one.open));
    Some(Hours {
        time_zone: zone?,
        week,
        exceptions,
    })
}

type Times = Option<(usize, Minute, Minute)>;

fn exception(
    at: usize,
    given: proto::OpenException,
    faults: &mut Violations,
) -> Option<(Exception, Times)> {
    let date = given.date.as_deref().and_then(|text| text.parse().ok());
    if date.is_none() {
        faults.add(
            format!("exceptions[{at}].date"),
            "must be a day such as `2026-12-25`",
        );
    }
    let open = match (given.opens.as_deref(), given.closes.as_deref()) {
        (None, None) => None,
        (opens, closes) => {
            let opens = minute(&format!("exceptions[{at}].opens"), opens, faults);
            let closes = minute(&format!("exceptions[{at}].closes"), closes, faults);
            Some((opens?, closes?))
        }
    };
    let exception = Exception {
        date: date?,
        open,
        name: given.name,
    };
    Some((exception, open.map(|(opens, closes)| (at, opens, closes))))
}

fn minute(field: &str, given: Option<&str>, faults: &mut Violations) -> Option<Minute> {
    let found = given.and_then(Minute::parse);
    if found.is_none() {
        faults.add(field, TIME);
    }
    found
}

fn weekday(given: Option<i32>) -> Option<Weekday> {
    match proto::Weekday::try_from(given?) {
        Ok(proto::Weekday::Monday) => Some(Weekday::Mon),
        Ok(proto::Weekday::Tuesday) => Some(Weekday::Tue),
        Ok(proto::Weekday::Wednesday) => Some(Weekday::Wed),
        Ok(proto::Weekday::Thursday) => Some(Weekday::Thu),
        Ok(proto::Weekday::Friday) => Some(Weekday::Fri),
        Ok(proto::Weekday::Saturday) => Some(Weekday::Sat),
        Ok(proto::Weekday::Sunday) => Some(Weekday::Sun),
        Ok(proto::Weekday::Unspecified) | Err(_) => None,
    }
}

fn day(day: Weekday) -> proto::Weekday {
    match day {
        Weekday::Mon => proto::Weekday::Monday,
        Weekday::Tue => proto::Weekday::Tuesday,
        Weekday::Wed => proto::Weekday::Wednesday,
        Weekday::Thu => proto::Weekday::Thursday,
        Weekday::Fri => proto::Weekday::Friday,
        Weekday::Sat => proto::Weekday::Saturday,
        Weekday::Sun => proto::Weekday::Sunday,
    }
}

fn whole(client: ClientId, version: &Version) -> proto::BusinessHours {
    let open = |open: &Open| proto::OpenHours {
        day: Some(day(open.day).into()),
        opens: Some(open.opens.to_string()),
        closes: Some(open.closes.to_string()),
    };
    let exception = |one: &Exception| proto::OpenException {
        date: Some(one.date.to_string()),
        opens: one.open.map(|(opens, _)| opens.to_string()),
        closes: one.open.map(|(_, closes)| closes.to_string()),
        name: one.name.clone(),
    };
    let hours = &version.hours;
    proto::BusinessHours {
        client_id: Some(client.to_string()),
        time_zone: Some(hours.time_zone.name().to_owned()),
        week: hours.week.iter().map(open).collect(),
        exceptions: hours.exceptions.iter().map(exception).collect(),
        etag: Some(etag(version.revision)),
        set_by: Some(version.set_by.clone()),
        valid_from: Some(field::timestamp(version.valid_from)),
        valid_to: version.valid_to.map(field::timestamp),
    }
}
