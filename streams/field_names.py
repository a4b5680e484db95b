"""Names that fields have elsewhere, in columns and records, in ten languages."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

NAMES: Mapping[str, tuple[str, ...]] = {
    "user_id": (
        "user", "uid", "customer", "member", "account", "client", "reviewerid", "personid", "profileid",
        "reader", "buyer", "shopper", "viewer", "listener", "who", "visitor", "deviceid", "session",
        "bruger", "bruker", "kunde", "medlem", "anvandare", "kund", "nutzer", "benutzer", "mitglied",
        "gebruiker", "klant", "utilisateur", "membre", "usuario", "cliente", "utente", "utilizador",
    ),
    "item_id": (
        "item", "iid", "movie", "product", "article", "businessid", "artistid", "songid", "trackid",
        "parentasin", "asin", "newsid", "bookid", "isbn", "videoid", "gameid", "contentid", "sku", "adid",
        "pageid", "recipeid", "listingid", "film",
        "vare", "vara", "produkt", "artikel", "bog", "bok", "buch", "boek", "produit", "livre", "oeuvre",
        "articulo", "producto", "pelicula", "libro", "articolo", "prodotto", "produto", "artigo", "livro",
    ),
    "timestamp": (
        "timestampms", "timestamp", "eventtime", "eventtimestamp", "unixreviewtime", "unixtime", "time", "ts",
        "datetime", "createdat", "date", "tdat", "playedat", "clickedat", "purchasedat", "when", "at",
        "tidspunkt", "tidsstempel", "tid", "dato", "datum", "zeitpunkt", "zeitstempel", "zeit", "tijdstip",
        "tijd", "horodatage", "fecha",
    ),
    "action": (
        "action", "event", "eventtype", "eventname", "behavior", "behaviour", "behaviortype", "interaction",
        "interactiontype", "type", "verb", "what",
        "handling", "haendelse", "hendelse", "handelse", "aktion", "ereignis", "actie", "accion", "azione",
        "acao",
    ),
    "rating": (
        "rating", "ratings", "stars", "score", "overall", "ratingvalue",
        "bedommelse", "vurdering", "karakter", "betyg", "bewertung", "beoordeling", "calificacion",
        "puntuacion", "valutazione", "avaliacao",
    ),
    "label": ("label", "click", "clicked", "isclick", "target", "like", "liked"),
    "value": (
        "value", "weight", "price", "amount", "revenue", "quantity", "playcount", "plays", "listens",
        "belob", "belop", "pris", "antal", "antall", "betrag", "preis", "menge", "bedrag", "prijs", "aantal",
        "montant", "prix", "quantite", "importe", "precio", "cantidad", "importo", "prezzo", "quantita",
        "valor", "preco", "quantidade",
    ),
    "event_id": ("eventid",),
    "request_id": ("requestid",),
    "position": ("position",),
    "dwell_ms": ("dwellms",),
    "title": (
        "title", "movietitle", "itemname", "productname", "prodname", "name", "headline",
        "titel", "tittel", "navn", "namn", "overskrift", "varenavn", "produktnavn", "bezeichnung",
        "produktname", "naam", "titre", "titulo", "nombre", "titolo", "nome",
    ),
    "text": (
        "text", "description", "abstract", "plot", "summary", "overview", "detaildesc", "body",
        "tekst", "beskrivelse", "beskrivning", "beschreibung", "omschrijving", "beschrijving", "texte",
        "texto", "descripcion", "testo", "descrizione", "descricao",
    ),
    "year": ("releaseyear", "year", "udgivelsesar", "ar", "jahr", "jaar", "annee"),
    "preferences": ("preferences", "interests"),
    "blocked_items": ("blockeditems",),
    "friends": ("friends", "friendids", "follows", "following", "followees"),
}  # fmt: skip
"""As `folded` writes them; of ids also without what says that they are ids."""
RELATIONS = {
    "genres": "genre", "class": "genre", "categories": "category", "tags": "tag", "authors": "author",
    "artists": "artist", "directors": "director", "actors": "actor", "brands": "brand",
}  # fmt: skip
"""Columns of several values, by the relation that one of them stands in."""
OF_PEOPLE = {"age", "gender", "sex", "occupation", "birthyear", "birthday", "email", "firstname", "lastname"}
"""Columns beside which a plain `id` is a user's."""
AMOUNTS = {
    "price", "amount", "revenue", "quantity", "belob", "belop", "pris", "antal", "antall", "betrag", "preis",
    "menge", "bedrag", "prijs", "aantal", "montant", "prix", "quantite", "importe", "precio", "cantidad",
    "importo", "prezzo", "quantita", "valor", "preco", "quantidade",
}  # fmt: skip
"""Values that only a purchase has."""
ACTIONS = {
    "views": "view", "pv": "view", "pageview": "view", "impression": "view", "clicks": "click",
    "addtocart": "click", "cart": "click", "play": "click", "listen": "click", "buy": "purchase",
    "order": "purchase", "transaction": "purchase", "purchased": "purchase", "favourite": "like",
    "favorite": "like", "fav": "like", "skip": "dislike",
    "vist": "view", "visning": "view", "klik": "click", "klick": "click", "clic": "click", "kob": "purchase",
    "kop": "purchase", "kauf": "purchase", "gekauft": "purchase", "aankoop": "purchase", "achat": "purchase",
    "compra": "purchase", "acquisto": "purchase",
}  # fmt: skip
"""What files call actions, as `folded` writes it, and what we call them."""
VERDICTS = {
    "1": "like", "+1": "like", "up": "like", "thumbup": "like", "thumbsup": "like", "upvote": "like",
    "like": "like", "liked": "like", "love": "like", "loved": "like", "positive": "like", "good": "like",
    "👍": "like", "❤️": "like",
    "-1": "dislike", "down": "dislike", "thumbdown": "dislike", "thumbsdown": "dislike",
    "downvote": "dislike", "dislike": "dislike", "disliked": "dislike", "hate": "dislike",
    "hated": "dislike", "negative": "dislike", "bad": "dislike", "👎": "dislike",
    "0": "view", "none": "view", "neutral": "view",
}  # fmt: skip
"""What is said of an item by a thumb up or down, as `verdict` writes it; a view where it is neither."""
IDS = re.compile(r"(id|key|code|kode|no|nr|nummer|number|numero|hash)$")
"""How a name ends that is an id's."""
_STARTS_AS_ID = re.compile(r"^(id|codigo|numero|code)")
_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "ð": "d", "þ": "th"})


def folded(column: str) -> str:
    """Return a column's name as names are compared: small letters without accents, and digits."""
    text = column.casefold().translate(_LETTERS)
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", text))


def verdict(value: str) -> str | None:
    """Return the action that a thumb up or down is, None of what is none of `VERDICTS`."""
    text = value.strip()
    return VERDICTS.get(text) or VERDICTS.get(folded(text) if text[-1:].isalpha() else "")


def means(parts: Sequence[str], field: str) -> bool:
    """Tell whether the last part of a path is what a field is called: of an id also `vare.nr`, `vare_nr`."""
    last, *before = [folded(part) for part in reversed(parts)]
    called = {last}
    if field in ("user_id", "item_id"):
        called.add(without_id(last) or (before[0] if before else ""))
    return not called.isdisjoint(NAMES.get(field, ()))


def without_id(name: str) -> str:
    """Return a folded name without what says that it is an id's: bruger of brugernr, produit of idproduit."""
    ends = IDS.sub("", name)
    return ends if ends != name else _STARTS_AS_ID.sub("", name)
