"""The price table: what a million tokens of each model are taken to cost.

Prices are assumptions that a reader edits in `params/prices.yml`; each says where it comes from and as of when, and the
page that multiplies by one prints both.
"""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from panelbook.errors import BookError

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Words = Annotated[str, Field(min_length=1)]


class PriceError(BookError, ValueError):
    """The price table is missing or broken, or has no such model."""


class Price(BaseModel):
    """Price of one model's tokens.

    Attributes
    ----------
    prompt, completion, training
        Units of the currency per million tokens, from 0; of a training step only where a service trains the model.
    mean_tokens, tokens_per_s
        Mean length of a completion and rate of drawing that a plan reckons with, where it reckons with any.
    source
        Where the price comes from.
    as_of
        When it was read there, or that it is not dated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Amount
    completion: Amount
    training: Amount | None = None
    mean_tokens: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    tokens_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    source: Words
    as_of: Words


class PriceTable(BaseModel):
    """Prices by model.

    Attributes
    ----------
    currency
        The unit of every price, such as USD.
    models
        Name of a model -> its price.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: Words
    models: Annotated[dict[str, Price], Field(min_length=1)]


def read_prices(path: str | Path) -> PriceTable:
    """Read a price table, checked.

    Raises
    ------
    PriceError
        If the file is missing, is not YAML, has a key too many or too few, or a price that is no number from 0.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PriceError(f"{path} cannot be read: {error}. Give the path of a price table.") from None
    except yaml.YAMLError as error:
        raise PriceError(f"{path} is not valid YAML: {error}") from None
    try:
        return PriceTable.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise PriceError(
            f"{path}: {where}: {first['msg']}; it is {str(first['input'])[:60]!r}. Each model needs prompt, "
            "completion, source and as_of; dates go in quotation marks."
        ) from None


def find_price(table: PriceTable, model: str) -> Price:
    """Return the price of a model.

    Raises
    ------
    PriceError
        If the table has no such model; the message lists those it has.
    """
    if model not in table.models:
        known = ", ".join(table.models)
        raise PriceError(
            f"the price table has no model {model!r}; it has {known}. Add it to the price table."
        )
    return table.models[model]
