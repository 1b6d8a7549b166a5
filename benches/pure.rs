//! What a request costs before any I/O: reading its target, deciding, reading Telnyx's bodies, and writing a copy's fields.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{Method, Uri};
use reputation_gateway::cache::{Content, Entry, Key};
use reputation_gateway::policy::decide::{Copy, Facts, FirstTouch, Kind, OnDenied, Policy, Want, decide};
use reputation_gateway::policy::entitlement::Partition;
use reputation_gateway::telnyx::{EnterpriseId, PhoneNumber, record, route};
use reputation_gateway::wire::target::Target;

const PATH: &str = "/v2/enterprises/6a09cdc3-8948-47f0-aa62-74ac943d6c58/reputation/numbers/+16035551234";

/// As long as Telnyx's own, 574 bytes.
const RECORD: &str = r#"{
  "data": {
    "id": "5f0e4c1e-8d5b-4b0a-9a57-000000000000",
    "phone_number": "+16035551234",
    "enterprise_id": "6a09cdc3-8948-47f0-aa62-74ac943d6c58",
    "created_at": "2026-01-15T09:30:00Z",
    "updated_at": "2026-03-24T12:00:00Z",
    "reputation_data": {
      "spam_risk": "low",
      "spam_category": null,
      "maturity_score": 81,
      "connection_score": 74,
      "engagement_score": 66,
      "sentiment_score": 90,
      "last_refreshed_at": "2026-03-24T12:00:00Z"
    },
    "status": "active",
    "record_type": "reputation_phone_number"
  }
}"#;

fn target(c: &mut Criterion) {
    let uri: Uri = PATH.parse().expect("a URI");
    c.bench_function("target", |b| b.iter(|| Target::parse(black_box(&uri)).expect("a target")));
    c.bench_function("target, route, number, enterprise", |b| {
        b.iter(|| {
            let target = Target::parse(black_box(&uri)).expect("a target");
            let route = route(&Method::GET, &target.segments).expect("a route");
            let number = route.number.map(PhoneNumber::from_segment).expect("a number").expect("E.164");
            let enterprise: EnterpriseId = route.enterprise.expect("an enterprise").parse().expect("a UUID");
            (number, enterprise)
        });
    });
}

fn decision(c: &mut Criterion) {
    let hour = Duration::from_hours(1);
    let policy = Policy {
        min_age: hour,
        unknown_window: hour,
        on_denied: OnDenied::Cached,
        first_touch: FirstTouch::Bill,
        stale_while_revalidate: hour,
        stale_if_error: hour,
        error_ttl: hour,
        null_ttl: hour,
    };
    let copy = Copy { kind: Kind::Data, age: Duration::from_mins(5), lifetime: hour, data_age: Some(hour), outdated: false };
    let hit = Facts { want: Want { may_bill: true, ..Want::default() }, copy: Some(copy), ..Facts::default() };
    c.bench_function("decide a hit", |b| b.iter(|| decide(black_box(&hit), &policy)));
    let fresh =
        Facts { want: Want { fresh: true, may_bill: true, ..Want::default() }, may_fresh: true, copy: Some(copy), ..Facts::default() };
    c.bench_function("decide a purchase", |b| b.iter(|| decide(black_box(&fresh), &policy)));
}

fn bodies(c: &mut Criterion) {
    c.bench_function("read a record", |b| b.iter(|| record::document(black_box(RECORD.as_bytes())).expect("a record")));
    let item = RECORD.trim_start_matches("{\n  \"data\":").trim_end_matches('}');
    let page = format!("{{\"data\":[{}]}}", vec![item; 250].join(","));
    c.bench_function("read a page of 250", |b| b.iter(|| record::list(black_box(page.as_bytes())).expect("a page")));
}

fn copy(c: &mut Criterion) {
    let hour = Duration::from_hours(1);
    let reputation = record::document(RECORD.as_bytes()).expect("a record").reputation;
    let enterprise = "6a09cdc3-8948-47f0-aa62-74ac943d6c58".parse().expect("a UUID");
    let key = Key { partition: Partition::SHARED, enterprise, number: "+16035551234".parse().expect("E.164") };
    let entry = Entry::new(&key, Content::record(reputation, RECORD.into(), None), hour, hour, hour);
    c.bench_function("a copy's ETag, Last-Modified and body", |b| {
        b.iter(|| {
            let entry = black_box(&entry);
            (entry.etag(), entry.last_modified(), entry.body_to_send())
        });
    });
}

criterion_group!(pure, target, decision, bodies, copy);
criterion_main!(pure);
