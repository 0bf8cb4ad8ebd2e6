//! The words of cluster names: short, friendly, hard to mishear, none a prefix of a host name that exists already.

/// How it is.
pub const ADJECTIVES: [&str; 64] = [
    "agile", "amber", "ample", "arctic", "autumn", "balmy", "bold", "brave", "breezy", "bright", "brisk",
    "calm", "candid", "cheery", "civil", "clever", "cosy", "crisp", "daring", "deft", "dusky", "eager",
    "early", "fair", "fleet", "frosty", "gentle", "glad", "golden", "hardy", "hazel", "honest", "jolly",
    "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "misty", "neat", "nimble",
    "noble", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "rapid", "rosy", "silver",
    "sleek", "snowy", "spry", "steady", "sturdy", "sunny", "swift", "tidy", "witty",
];

/// What it is.
pub const ANIMALS: [&str; 64] = [
    "badger", "bat", "bear", "beaver", "bison", "bittern", "bobcat", "buzzard", "caribou", "chamois",
    "civet", "coot", "crane", "curlew", "deer", "dingo", "dipper", "dormouse", "dunlin", "egret", "eider",
    "elk", "ermine", "falcon", "finch", "fox", "gannet", "gecko", "gibbon", "goose", "grebe", "hare",
    "harrier", "hedgehog", "heron", "ibex", "ibis", "jackdaw", "kestrel", "kite", "lark", "lemur", "linnet",
    "lynx", "marmot", "marten", "merlin", "mole", "moose", "newt", "osprey", "otter", "owl", "pika",
    "plover", "puffin", "raven", "robin", "seal", "siskin", "stoat", "tapir", "teal", "wren",
];
