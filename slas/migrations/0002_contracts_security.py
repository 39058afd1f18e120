"""Row-level security of contracts; what was agreed stays; and what a site was like is kept when that changes."""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, READ_ONLY, protect

# A provider sees the contracts that it has, or had, a segment in, with every version, and of these its own segments: it
# must see as well that a newer version has none of it.
OWN = "EXISTS (SELECT 1 FROM slas_segment g WHERE g.contract_id = {column})"

# The first span begins before all time: a site was never without traits. What sites were like before this migration is
# known of none; each of their tenures gets the traits of now. A change counts from the moment that the
# service wrote with it, which is also that of a hand-over.
TRAITS = """
CREATE FUNCTION keep_site_traits() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $body$
DECLARE
    moment timestamptz := 'epoch';
BEGIN
    IF TG_OP = 'UPDATE' THEN
        SELECT GREATEST(t.valid_from, CASE WHEN NEW.updated_at > OLD.updated_at THEN NEW.updated_at ELSE now() END)
        INTO moment FROM slas_sitetraits t WHERE t.site_id = NEW.id AND t.valid_to IS NULL;
        UPDATE slas_sitetraits SET valid_to = moment WHERE site_id = NEW.id AND valid_to IS NULL;
    END IF;
    INSERT INTO slas_sitetraits (site_id, provider_id, valid_from, labels, region)
    VALUES (NEW.id, NEW.provider_id, COALESCE(moment, 'epoch'),
        NEW.labels || jsonb_build_object('ring', NEW.ring), NEW.region);
    RETURN NULL;
END
$body$;
CREATE TRIGGER keep_traits_new AFTER INSERT ON edge_sites_site FOR EACH ROW EXECUTE FUNCTION keep_site_traits();
CREATE TRIGGER keep_traits AFTER UPDATE OF provider_id, region, ring, labels ON edge_sites_site
FOR EACH ROW WHEN ((OLD.provider_id, OLD.region, OLD.ring, OLD.labels)
    IS DISTINCT FROM (NEW.provider_id, NEW.region, NEW.ring, NEW.labels))
EXECUTE FUNCTION keep_site_traits();
INSERT INTO slas_sitetraits (site_id, provider_id, valid_from, valid_to, labels, region)
SELECT s.id, t.provider_id,
    CASE WHEN t.valid_from = min(t.valid_from) OVER (PARTITION BY s.id) THEN 'epoch' ELSE t.valid_from END, t.valid_to,
    s.labels || jsonb_build_object('ring', s.ring), s.region
FROM edge_sites_site s JOIN edge_sites_sitetenure t ON t.site_id = s.id;
"""
UNDO = """
DROP TRIGGER keep_traits ON edge_sites_site; DROP TRIGGER keep_traits_new ON edge_sites_site;
DROP FUNCTION keep_site_traits();
"""


class Migration(migrations.Migration):
    dependencies = [("slas", "0001_contracts"), ("edge_sites", "0019_image_sizes_security")]

    operations = [
        protect(
            "slas_contract",
            grants=APPEND_ONLY,
            scoped_grants=READ_ONLY,
            scoped=OWN.format(column="slas_contract.id"),
        ),
        protect(
            "slas_contractversion",
            grants=APPEND_ONLY,
            scoped_grants=READ_ONLY,
            scoped=OWN.format(column="slas_contractversion.contract_id"),
        ),
        protect("slas_segment", grants=APPEND_ONLY, scoped_grants=READ_ONLY),
        # Written by the trigger alone, for whoever changes a site.
        protect("slas_sitetraits", grants=("SELECT", "INSERT", "UPDATE")),
        migrations.RunSQL(TRAITS, UNDO),
    ]
