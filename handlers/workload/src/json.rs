//! Work on JSON: records as a typical service has them, written and parsed with serde.

use serde::{Deserialize, Serialize};

use crate::{Random, checksum};

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Order {
    id: u64,
    customer: String,
    email: String,
    total: f64,
    paid: bool,
    note: Option<String>,
    items: Vec<Item>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Item {
    name: String,
    price: f64,
    quantity: u32,
}

/// Writes and parses 4,000 objects.
pub(crate) fn write_and_parse() -> u64 {
    let orders = orders(4000);
    let text = serde_json::to_string(&orders).unwrap_or_default();
    let parsed: Vec<Order> = serde_json::from_str(&text).unwrap_or_default();
    let sum = checksum(text.bytes().map(u64::from));
    if parsed == orders { sum } else { 0 }
}

fn orders(count: u64) -> Vec<Order> {
    let mut random = Random::new();
    let order = |id| {
        let items: Vec<Item> = (0..1 + random.below(3)).map(|_| item(&mut random)).collect();
        let total: f64 = items.iter().map(|item| item.price * f64::from(item.quantity)).sum();
        Order {
            id,
            customer: format!("Customer \"{}\"", random.below(1000)),
            email: format!("customer{id}@example.org"),
            total: (total * 100.0).round() / 100.0,
            paid: random.below(2) == 0,
            note: (random.below(4) == 0).then(|| "leave it\nat the neighbour's".into()),
            items,
        }
    };
    (0..count).map(order).collect()
}

fn item(random: &mut Random) -> Item {
    Item {
        name: format!("item {}", random.below(10_000)),
        price: random.below(100_000) as f64 / 100.0,
        quantity: 1 + random.below(9) as u32,
    }
}

#[test]
fn what_was_written_is_parsed() {
    assert_ne!(write_and_parse(), 0);
    let text = serde_json::to_string(&orders(3)).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Order>>(&text).unwrap(), orders(3));
}
