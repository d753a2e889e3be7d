delete from retention where table_name in ('billing_discrepancy', 'reconciliation_sighting', 'billing_reconciliation');
drop table billing_discrepancy;
drop table reconciliation_sighting;
drop table billing_reconciliation;
